//go:build !race

package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/logtest"
)

// The tests of this kind run the built binary in a process of its own, for its memory and for what happens to it under
// attack. The race detector would see nothing of it, and slow down its peers.

// program is a running sluice.
type program struct {
	t     testing.TB
	pid   int
	addr  string
	admin string
}

// buildProgram builds the binary. It lives as long as the test.
func buildProgram(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// startProgram runs the binary, with every host led to one backend, until the test ends. Its addresses are on the IP 127.0.78.n,
// so n must differ between tests that run at once. limits are keys of the section server.
func startProgram(t *testing.T, binary string, n int, backend string, limits map[string]any) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, addr: freeAddress(t, fmt.Sprintf("127.0.78.%d", n)), admin: freeAddress(t, fmt.Sprintf("127.0.79.%d", n))}
	server := map[string]any{"accessLog": filepath.Join(dir, "access.log")}
	for key, value := range limits {
		server[key] = value
	}
	config := writeJSON(t, filepath.Join(dir, "config.json"), map[string]any{
		"driver": "file:" + writeJSON(t, filepath.Join(dir, "routes.json"), map[string]any{"frontend:*": []string{"all", backend}}),
		"http":   bind(p.addr, "bind"), "admin": bind(p.admin, ""), "server": server, "user": "root",
	})
	cmd := exec.Command(binary, "-c", config)
	log := &logtest.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
		if t.Failed() {
			t.Logf("sluice said:\n%s", log)
		}
	})
	eventually(t, "sluice to start", func() bool { return p.metric("sluice_connections") >= 0 })
	return p
}

// bind is a section of the configuration that says where to listen.
func bind(addr, list string) map[string]any {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	if list != "" {
		return map[string]any{"bind": []string{host}, "port": n}
	}
	return map[string]any{"bind": host, "port": n}
}

func writeJSON(t testing.TB, path string, content any) string {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// metric reads a series from the admin listener, -1 if there is none.
func (p *program) metric(name string) float64 {
	resp, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + p.admin + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return v
		}
	}
	return -1
}

func (p *program) awaitMetric(name string, want float64) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s = %v", name, want), func() bool { return p.metric(name) == want })
}

// memory reads a line of the process's status, in bytes: VmRSS is what it occupies, VmHWM the most it ever did.
func (p *program) memory(line string) int64 {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		var kilobytes int64
		if _, err := fmt.Sscanf(l, line+": %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	p.t.Fatalf("no %s for process %d", line, p.pid)
	return 0
}

// dial opens a connection that ends with the test at the latest.
func (p *program) dial() *client {
	p.t.Helper()
	c, err := net.DialTimeout("tcp4", p.addr, patience)
	if err != nil {
		p.t.Fatal(err)
	}
	return newClient(p.t, c)
}

// TestProcess runs what shares the binary, one after another and not beside other tests: each keeps a machine busy.
func TestProcess(t *testing.T) {
	binary := buildProgram(t)
	t.Run("idle connections", func(t *testing.T) { testIdleConnections(t, binary) })
	t.Run("idle backends", func(t *testing.T) { testIdleBackends(t, binary) })
	t.Run("tunnels", func(t *testing.T) { testTunnels(t, binary) })
	t.Run("streams", func(t *testing.T) { testStreams(t, binary) })
	t.Run("slow clients", func(t *testing.T) { testSlowClients(t, binary) })
}
