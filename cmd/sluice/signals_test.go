package main

import (
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

func TestProcess_ServesFromFile(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log=none")
	if a := p.awaitStatus("www.example.com", http.StatusOK); a.body != "hello" {
		t.Errorf("body = %q, want hello", a.body)
	}
	if a := p.get("other.example.com"); a.status != http.StatusBadRequest || a.header.Get("X-Sluice-Error") != "unknown_host" {
		t.Errorf("unknown host: %d %q, want 400 unknown_host", a.status, a.header.Get("X-Sluice-Error"))
	}
	if got := p.status(p.admin + "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz = %d, want 200", got)
	}
}

func TestProcess_MissingRoutesFile(t *testing.T) {
	t.Parallel()
	status, _, stderr := runArgs(t, "--driver=file:"+t.TempDir()+"/none.json", "--user=root", "--server-access-log=none",
		"--http-port", port(t), "--admin-port=0")
	if status != exitFailed || !strings.Contains(stderr, "none.json") {
		t.Errorf("status %d, output %q", status, stderr)
	}
}

func TestProcess_SIGHUP(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	file := writeConfig(t, `{"server": {"accessLog": "none"}}`)
	p := launch(t, "-c", file, routesFile(t, map[string]string{"www.example.com": backend.URL()}))
	p.awaitStatus("www.example.com", http.StatusOK)

	writeFile(t, file, `{"server": {"accessLog": "stdout", "requestIdHeader": "X-Edge-Id"}}`)
	p.signal(syscall.SIGHUP)
	p.awaitLog("configuration changed", "server.requestIdHeader")
	p.awaitLog("need a restart", "server.accessLog")
	p.await("X-Edge-Id at the backend", func() bool {
		a, reused := p.getTraced("www.example.com")
		if !reused {
			t.Error("the reload closed a keep-alive connection")
		}
		return strings.Contains(a.body, "X-Edge-Id")
	})

	writeFile(t, file, `{"server": {"requestIdHeadr": "X", "retryOnError": -1}}`)
	p.signal(syscall.SIGHUP)
	p.awaitLog("did you mean", "server.requestIdHeader")
	p.awaitLog("not reloaded", "mistakes=2")
	if a, _ := p.getTraced("www.example.com"); !strings.Contains(a.body, "X-Edge-Id") {
		t.Errorf("a file with mistakes changed something: %q", a.body)
	}
}

// getTraced also tells whether the request went over a connection that was open already.
func (p *process) getTraced(host string) (a answer, reused bool) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(p.t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	}), http.MethodGet, p.base+"/", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	request.Host = host
	return p.do(request), reused
}

func TestProcess_SIGUSR1(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	file := filepath.Join(t.TempDir(), "logs", "access.log") // the folder is made at start
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log="+file)
	p.awaitStatus("www.example.com", http.StatusOK)
	line := func(file string) func() bool {
		return func() bool {
			content, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(content), "GET / HTTP/1.1")
		}
	}
	p.await("a line in the file", line(file)) // it is written after the answer
	moved := file + ".1"
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	p.awaitLog("access log reopened")
	p.get("www.example.com")
	p.await("a line in the new file", line(file))
	if content, err := os.ReadFile(moved); err != nil || !strings.Contains(string(content), "GET / HTTP/1.1") {
		t.Errorf("the old file lost its lines: %q, %v", content, err)
	}
}

func TestProcess_DrainsOnSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			backend := backendtest.HTTP(t, backendtest.Slow(500*time.Millisecond, 500*time.Millisecond, "done"))
			file := filepath.Join(t.TempDir(), "access.log")
			p := launch(t, routesFile(t, map[string]string{"slow.example.com": backend.URL()}), "--server-access-log="+file)
			p.await("routes", func() bool { return p.status(p.admin+"/readyz") == http.StatusOK })
			result := make(chan answer, 1)
			go func() { result <- p.get("slow.example.com") }()
			p.await("request at the backend", func() bool { return backend.Requests() > 0 })
			p.signal(s)
			p.signal(s) // as timeout(1) does
			if a := <-result; a.status != http.StatusOK || a.body != "done" || a.err != nil {
				t.Errorf("slow request: %+v, want its whole answer", a)
			}
			if status := p.exitStatus(); status != exitOK {
				t.Errorf("exit status %d, want 0", status)
			}
			if content, err := os.ReadFile(file); err != nil || !strings.Contains(string(content), " 200 4 ") {
				t.Errorf("access log = %q, %v; want the request's line", content, err)
			}
		})
	}
}

func TestProcess_DrainTimeout(t *testing.T) {
	t.Parallel()
	backend := backendtest.Silent(t)
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}),
		"--server-access-log=none", "--server-drain-timeout=0.2")
	p.await("routes", func() bool { return p.status(p.admin+"/readyz") == http.StatusOK })
	result := make(chan answer, 1)
	go func() { result <- p.get("www.example.com") }()
	p.await("request at the backend", func() bool { return backend.Connects() > 0 })
	p.signal(syscall.SIGTERM)
	p.awaitLog("drain timeout reached")
	if status := p.exitStatus(); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	if a := <-result; a.err == nil && a.status == http.StatusOK {
		t.Errorf("a request that never ends got %+v", a)
	}
}

func TestProcess_SIGHUPReadsPagesAgain(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	p := launch(t, routesFile(t, nil), "--server-access-log=none", "--server-static-dir="+folder)
	p.awaitStatus("www.example.com", http.StatusBadRequest)
	writeFile(t, filepath.Join(folder, "error_400.html"), "ours")
	p.signal(syscall.SIGHUP)
	p.await("our page", func() bool { return p.get("www.example.com").body == "ours" })
}

func TestProcess_DrainDelay(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}),
		"--server-access-log=none", "--server-drain-delay=2")
	p.awaitStatus("www.example.com", http.StatusOK)
	p.awaitStatus("__ping__", http.StatusOK)
	p.signal(syscall.SIGTERM)
	begun := time.Now()
	p.await("not ready", func() bool { return p.status(p.admin+"/readyz") == http.StatusServiceUnavailable })
	p.awaitStatus("__ping__", http.StatusServiceUnavailable)
	p.client.CloseIdleConnections()
	if a := p.get("www.example.com"); a.status != http.StatusOK {
		t.Errorf("a new connection within the delay: %+v, want 200", a)
	}
	p.client.CloseIdleConnections() // an idle connection may have a request on its way, so it would be waited for
	if status := p.exitStatus(); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("ended after %v, want the delay of 2 s", took)
	}
}

func TestProcess_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	backend := backendtest.Silent(t)
	p := launch(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log=none")
	p.await("routes", func() bool { return p.status(p.admin+"/readyz") == http.StatusOK })
	go p.get("www.example.com") // ends with the process
	p.await("request at the backend", func() bool { return backend.Connects() > 0 })
	p.signal(syscall.SIGTERM)
	p.awaitLog("draining")
	time.Sleep(2 * echoSpan) // sooner it would be taken for the first one
	p.signal(syscall.SIGTERM)
	if status := p.exitStatus(); status != exitFailed {
		t.Errorf("exit status %d, want %d", status, exitFailed)
	}
}
