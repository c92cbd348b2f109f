package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
	"sluice/internal/config"
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

// The store may take its time: nobody gets the certificate of another name, or an error, because it has not answered yet.
func TestProcess_SlowStoreAtStart(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	own := certtest.New(t).Issue(t, "www.example.com")
	store := redistest.Start(t)
	store.Do("RPUSH", "frontend:www.example.com", "test", backend.URL())
	store.Do("HSET", "tls:www.example.com", "certificate", own.Certificate, "key", own.Key)
	store.Do("HSET", "route:www.example.com", "redirectHttps", "true")
	relay := redistest.StartRelay(t, store)
	if _, err := buildOnce(); err != nil { // it takes longer than the store
		t.Fatal(err)
	}
	relay.Block()
	release := time.AfterFunc(startPatience/3, relay.Release)
	defer release.Stop()
	e := launchTLS(t, fmt.Sprintf("--driver=redis://127.0.0.1:%d", relay.Port))
	if got := e.serial("www.example.com"); got != own.Serial {
		t.Errorf("the first handshake: got %s, want the name's own certificate", got)
	}
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := e.get("www.example.com"); a.status != http.StatusPermanentRedirect {
		t.Errorf("the first request: %d, want the redirect of the host's policy", a.status)
	}
}

func TestProcess_HipacheFile(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	store := redistest.Start(t)
	store.Do("RPUSH", "frontend:www.example.com", "test", backend.URL())
	httpPort := freePort(t)
	logFile := filepath.Join(t.TempDir(), "access.log")
	content := fmt.Sprintf(`{
		"server": {
			"accessLog": %q, "port": %d, "workers": 5, "maxSockets": 100, "deadBackendTTL": 30,
			"tcpTimeout": 30, "retryOnError": 3, "deadBackendOn500": true, "httpKeepAlive": false
		},
		"redisHost": "127.0.0.1",
		"redisPort": %d
	}`, logFile, httpPort, store.Port)
	p := launchOn(t, httpPort, "--config", writeConfig(t, content))
	p.awaitStatus("www.example.com", http.StatusOK)
	for _, old := range []string{"server.port", "redisHost", "server.workers", "server.maxSockets", "server.httpKeepAlive"} {
		p.awaitLog("level=WARN", old)
	}
	p.await("a line in the access log", func() bool {
		line, err := os.ReadFile(logFile)
		return err == nil && strings.HasPrefix(string(line), "::ffff:127.0.0.1 - - [")
	})
}

func TestProcess_PortTaken(t *testing.T) {
	t.Parallel()
	taken := backendtest.Silent(t)
	_, takenPort, _ := strings.Cut(taken.Addr(), ":")
	for flag, name := range map[string]string{"--http-port": "bind 127.0.0.1:", "--admin-port": "admin.port"} {
		other := "--admin-port=0"
		if flag == "--admin-port" {
			other = "--http-port=" + port(t)
		}
		status, _, stderr := runArgs(t, flag+"="+takenPort, other, "--user=root", "--server-access-log=none", routesFile(t, nil))
		if status != exitFailed || !strings.Contains(stderr, name) || !strings.Contains(stderr, "another process") {
			t.Errorf("%s: status %d, output %q", flag, status, stderr)
		}
	}
}

func TestEdge_FailedListenerEndsTheProgram(t *testing.T) {
	t.Parallel()
	cfg := emptyFile(t)
	var out strings.Builder
	e := newEdge(cfg, config.LoadOptions{}, newLogger(cfg, &out))
	e.serve("127.0.0.1:80", func() error { return errors.New("no more") })
	if status := e.run(t.Context(), nil); status != exitFailed || !strings.Contains(out.String(), "listener 127.0.0.1:80: no more") {
		t.Errorf("status %d, output %q", status, out.String())
	}
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
	p.awaitLog("SIGHUP and SIGUSR2 will not be able to read a file", secret)
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
		defer conn.Close()
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
