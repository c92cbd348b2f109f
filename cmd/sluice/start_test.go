package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

func port(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(freePort(t))
}

func TestProcess_Version(t *testing.T) {
	t.Parallel()
	p := launch(t, routesFile(t, nil), "--server-access-log=none")
	p.awaitLog("sluice started", "version=1.2.3-test")
}

func TestProcess_RedisAwayAtStart(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	store := redistest.Start(t)
	store.Kill()
	p := launch(t, "--driver="+store.URL(), "--server-access-log=none")
	a := p.get("www.example.com")
	if a.status != http.StatusServiceUnavailable || a.header.Get("X-Sluice-Error") != "store_unavailable" {
		t.Errorf("without the store: %d %q, want 503 store_unavailable", a.status, a.header.Get("X-Sluice-Error"))
	}
	if got := p.status(p.admin + "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz = %d, want 503", got)
	}
	if got := p.status(p.admin + "/healthz"); got != http.StatusOK {
		t.Errorf("/healthz = %d, want 200", got)
	}
	store.Restart()
	store.Do("RPUSH", "frontend:www.example.com", "test", backend.URL())
	p.awaitStatus("www.example.com", http.StatusOK)
	p.await("ready", func() bool { return p.status(p.admin+"/readyz") == http.StatusOK })
}

func TestProcess_DropsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	folder, err := os.MkdirTemp("", "sluice-user-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	routes := writeFile(t, filepath.Join(folder, "routes.json"), "{}")
	secret := writeFile(t, filepath.Join(folder, "config.json"), `{}`)
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	logFile := filepath.Join(folder, "logs", "access.log")
	p := launch(t, "-c", secret, "--driver=file:"+routes, "--user=www-data", "--server-access-log="+logFile)

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(logFile)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	want := fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", owner.Uid)
	if owner.Uid == 0 || !strings.Contains(string(status), want) || strings.Contains(string(status), "Groups:\t0") {
		t.Errorf("the process has\n%s\nthe log belongs to user %d", status, owner.Uid)
	}
	p.awaitLog("SIGHUP will not be able to read a file", secret)
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	p.awaitLog("access log reopened")
	p.signal(syscall.SIGHUP)
	p.awaitLog("not reloaded", "permission denied")
}

func TestProcess_HTTPS(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	folder := t.TempDir()
	certificate := backendtest.SelfSigned(t, "www.example.com")
	certFile := writeFile(t, filepath.Join(folder, "cert.pem"), string(certificate.CertPEM))
	keyFile := writeFile(t, filepath.Join(folder, "key.pem"), string(certificate.KeyPEM))
	httpsPort := port(t)
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log=none",
		"--https-bind=127.0.0.1", "--https-port="+httpsPort, "--https-cert="+certFile, "--https-key="+keyFile)
	serial := func() string {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+httpsPort, &tls.Config{ServerName: "www.example.com", InsecureSkipVerify: true}) //nolint:gosec // the certificate is looked at
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // nothing was written
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()

	renewed := backendtest.SelfSigned(t, "www.example.com")
	writeFile(t, certFile, string(renewed.CertPEM))
	writeFile(t, keyFile, string(renewed.KeyPEM))
	p.signal(syscall.SIGHUP)
	p.awaitLog("certificate reloaded")
	if second := serial(); second == first {
		t.Error("SIGHUP did not renew the certificate")
	}
}
