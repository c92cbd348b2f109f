package certs

import (
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sluice/internal/logtest"
)

// Clients refuse a certificate with an answer that has ended.
func TestStaple_EndsWithTheAnswer(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	site := issue(t, "www.example.com", root, nil)
	chain := append(pem.EncodeToMemory(certBlock(site)), pem.EncodeToMemory(certBlock(root))...)
	key := pem.EncodeToMemory(keyBlock(t, site.key))
	for name, config := range map[string]func(t *testing.T, folder string, log *slog.Logger) *tls.Config{
		"files": func(t *testing.T, folder string, log *slog.Logger) *tls.Config {
			file := filepath.Join(folder, "www.example.com.crt")
			if err := os.Rename(filepath.Join(folder, "www.example.com.ocsp"), file+".ocsp"); err != nil {
				t.Fatal(err)
			}
			return load(t, Options{Cert: file, Key: filepath.Join(folder, "www.example.com.key"), Log: log}).TLSConfig()
		},
		"folder": func(t *testing.T, folder string, log *slog.Logger) *tls.Config {
			d, err := OpenDirectory(folder, 10, log)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.Close)
			byName := func(name string, _ netip.Addr) *tls.Certificate { return d.Certificate(name) }
			return load(t, Options{ByName: byName, Log: log}).TLSConfig()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, log := t.TempDir(), new(logtest.Buffer)
			end := time.Now().Add(3 * time.Second).Truncate(time.Second)
			answer, err := ocsp.CreateResponse(root.cert, root.cert, ocsp.Response{
				Status: ocsp.Good, SerialNumber: site.cert.SerialNumber, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: end,
			}, root.key)
			if err != nil {
				t.Fatal(err)
			}
			for suffix, text := range map[string][]byte{"crt": chain, "key": key, "ocsp": answer} {
				if err := os.WriteFile(filepath.Join(folder, "www.example.com."+suffix), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := config(t, folder, log.Logger())
			stapled := func() bool {
				state, err := shake(t, c, trusting(root, "www.example.com"))
				if err != nil {
					t.Fatal(err)
				}
				return len(state.OCSPResponse) > 0
			}
			if first := stapled(); !first && time.Now().Before(end) {
				t.Errorf("it is not stapled while it holds; logged %q", log.String())
			}
			time.Sleep(time.Until(end.Add(time.Millisecond)))
			for range 2 {
				if stapled() {
					t.Error("it is stapled after its end")
				}
			}
			if n := strings.Count(log.String(), "OCSP answer has ended"); n != 1 {
				t.Errorf("%d lines tell of it: %q", n, log.String())
			}
		})
	}
}
