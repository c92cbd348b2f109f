package main

import (
	"net/http"
	"path/filepath"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

const examplesFolder = "../../examples"

// TestExamples_HipacheFile starts from the file as it is; only what may be taken or missing on the
// machine of a test is replaced.
func TestExamples_HipacheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(examplesFolder, "hipache.json")
	if status, _, stderr := runArgs(t, "--config", file, "--dry"); status != exitOK {
		t.Errorf("--dry: status %d, output %q", status, stderr)
	}
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	store := redistest.Start(t)
	store.Do("RPUSH", "frontend:www.example.com", "test", backend.URL())
	p := launch(t, "--config", file, "--driver="+store.URL(), "--server-access-log=none")
	if a := p.awaitStatus("www.example.com", http.StatusOK); a.body != "hello" {
		t.Errorf("body = %q, want hello", a.body)
	}
}

// TestExamples_RailsBehindTLS needs the certificate that the reader makes.
func TestExamples_RailsBehindTLS(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(examplesFolder, "rails-behind-tls")
	certificate := backendtest.SelfSigned(t, "shop.localhost")
	own := t.TempDir()
	cert := writeFile(t, filepath.Join(own, "edge.crt"), string(certificate.CertPEM))
	key := writeFile(t, filepath.Join(own, "edge.key"), string(certificate.KeyPEM))
	flags := []string{
		"--config", filepath.Join(folder, "sluice.json"), "--https-cert=" + cert, "--https-key=" + key, "--user=root",
		"--driver=file:" + filepath.Join(folder, "routes.json"),
	}
	if status, _, stderr := runArgs(t, append(flags, "--dry")...); status != exitOK {
		t.Errorf("--dry: status %d, output %q", status, stderr)
	}
	p := launch(t, append(flags, "--https-port="+port(t))...)
	p.await("the route", func() bool {
		a := p.get("shop.localhost") // whether its backend runs is the reader's business
		return a.status != 0 && a.header.Get("X-Sluice-Error") != "unknown_host"
	})
}
