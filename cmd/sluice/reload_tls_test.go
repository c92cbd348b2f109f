package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
)

// SIGHUP brings policies of all hosts and clients' authorities into effect, and a mistake in them changes nothing.
func TestProcess_SIGHUPRenewsPolicyAndClientCA(t *testing.T) {
	t.Parallel()
	folder, ca := t.TempDir(), certtest.New(t)
	backend := backendtest.Echo(t, "echo")
	own := ca.Issue(t, "www.example.com")
	routes := writeFile(t, filepath.Join(folder, "routes.json"), fmt.Sprintf(`{"frontend:www.example.com": ["www", %q]}`, backend.URL()))
	plain, secure := freePort(t), freePort(t)
	config := filepath.Join(folder, "sluice.json")
	configure := func(https, policy map[string]any) {
		https["bind"], https["port"] = []any{"127.0.0.1"}, secure
		https["cert"] = writeFile(t, filepath.Join(folder, "cert.pem"), own.Certificate)
		https["key"] = writeFile(t, filepath.Join(folder, "key.pem"), own.Key)
		text, err := json.Marshal(map[string]any{
			"user": "root", "driver": "file:" + routes, "server": map[string]any{"accessLog": "none"},
			"http": map[string]any{"bind": "127.0.0.1", "port": plain}, "https": https, "policy": policy,
		})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, config, string(text))
	}
	first, second := certtest.New(t), certtest.New(t)
	files := map[*certtest.Authority]string{}
	for i, a := range []*certtest.Authority{first, second} {
		files[a] = writeFile(t, filepath.Join(folder, strconv.Itoa(i)+".pem"), a.PEM())
	}
	configure(map[string]any{}, map[string]any{})
	p := launchOn(t, plain, "-c", config)
	reload := func(https, policy map[string]any, want string) {
		t.Helper()
		configure(https, policy)
		before := strings.Count(p.log.String(), want)
		p.signal(syscall.SIGHUP)
		p.await(want, func() bool { return strings.Count(p.log.String(), want) > before })
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.PEM()))
	sessions := map[*certtest.Authority]tls.ClientSessionCache{} // Each client keeps its own, over all reloads.
	for _, a := range []*certtest.Authority{nil, first, second} {
		sessions[a] = tls.NewLRUClientSessionCache(8)
	}
	ask := func(a *certtest.Authority) string {
		settings := &tls.Config{RootCAs: roots, ServerName: "www.example.com", ClientSessionCache: sessions[a], MinVersion: tls.VersionTLS12}
		if a != nil {
			pair := a.Issue(t, "client.example")
			cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.Key))
			if err != nil {
				t.Fatal(err)
			}
			settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: settings}}
		q, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/", secure), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = "www.example.com"
		resp, err := client.Do(q)
		if err != nil {
			return "refused"
		}
		defer resp.Body.Close()
		var echoed backendtest.Echoed
		if err := json.NewDecoder(resp.Body).Decode(&echoed); err != nil {
			t.Fatal(err)
		}
		for _, f := range echoed.Fields {
			if f.Name == "Client-Cert" {
				return "known"
			}
		}
		return "nobody"
	}
	expect := func(when string, want map[*certtest.Authority]string) {
		t.Helper()
		for _, a := range []*certtest.Authority{nil, first, second} {
			for range 2 { // the second one with what the first one left for a resumption
				if got := ask(a); got != want[a] {
					t.Errorf("%s, client of %q: %s, want %s", when, files[a], got, want[a])
				}
			}
		}
	}
	reloaded := `msg="certificate reloaded"`
	expect("at the start", map[*certtest.Authority]string{nil: "nobody", first: "nobody", second: "nobody"})
	reload(map[string]any{"clientCa": files[first]}, map[string]any{}, reloaded)
	expect("with the first", map[*certtest.Authority]string{nil: "nobody", first: "known", second: "refused"})
	reload(map[string]any{"clientCa": files[second]}, map[string]any{}, reloaded)
	expect("with the second", map[*certtest.Authority]string{nil: "nobody", first: "refused", second: "known"})
	reload(map[string]any{"clientCa": filepath.Join(folder, "missing")}, map[string]any{}, "authorities of clients not reloaded")
	expect("after a mistake", map[*certtest.Authority]string{nil: "nobody", first: "refused", second: "known"})
	if text := p.log.String(); strings.Contains(text, "need a restart") {
		t.Errorf("a reload asked for a restart:\n%s", text)
	}

	status := func() int { return p.get("www.example.com").status }
	if got := status(); got != http.StatusOK {
		t.Errorf("before: status %d", got)
	}
	reload(map[string]any{}, map[string]any{"redirectHttps": true, "hsts": "soon"}, "nothing changed")
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if got := status(); got != http.StatusOK {
		t.Errorf("after a mistake: status %d", got)
	}
	reload(map[string]any{}, map[string]any{"redirectHttps": true}, reloaded)
	if got := status(); got != http.StatusPermanentRedirect {
		t.Errorf("with a redirect: status %d", got)
	}
	reload(map[string]any{}, map[string]any{}, reloaded)
	if got := status(); got != http.StatusOK {
		t.Errorf("afterwards: status %d", got)
	}
}
