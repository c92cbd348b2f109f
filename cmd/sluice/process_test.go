package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/internal/logtest"
)

// patience bounds every wait of these tests; none of them should need more than a fraction.
const patience = 15 * time.Second

// buildOnce makes the binary that the tests of this file run.
var buildOnce = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "sluice-test-*")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "sluice")
	out, err := exec.Command("go", "build", "-ldflags", "-X main.version=1.2.3-test", "-o", binary, ".").CombinedOutput()
	if err != nil {
		return folder, fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if binary, err := buildOnce(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(status)
}

// process is a running sluice.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *logtest.Buffer
	exited chan struct{}
	base   string // http://127.0.0.1:port
	admin  string
	client *http.Client
}

// Ports for what cannot be told to take any. They lie below the range from which the kernel takes
// ports for everybody else, so that nobody gets one between its choice and its use.
const (
	firstPort = 10000
	lastPort  = 29999
)

// givenPorts are the ports that tests of this process have been given.
var givenPorts sync.Map

// freePort finds a port that nobody uses.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if _, given := givenPorts.LoadOrStore(port, nil); given {
			continue
		}
		if ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = ln.Close() // nothing has connected
			return port
		}
	}
	t.Fatalf("no free port from %d to %d", firstPort, lastPort)
	return 0
}

// launch starts the binary on a port of its own and with a user that can read the test's files.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	port := freePort(t)
	return launchOn(t, port, append([]string{fmt.Sprintf("--http-port=%d", port), "--user=root"}, args...)...)
}

// launchOn starts the binary with a configuration that serves on the port, and waits for its admin
// pages. It ends with the test.
func launchOn(t *testing.T, port int, args ...string) *process {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	adminPort, log := freePort(t), new(logtest.Buffer)
	cmd := exec.Command(binary, append(args, fmt.Sprintf("--admin-port=%d", adminPort))...)
	cmd.Stderr = log
	return launchCommand(t, cmd, log, port, adminPort)
}

// launchCommand starts a command that serves on the ports and whose standard error arrives in log.
func launchCommand(t *testing.T, cmd *exec.Cmd, log *logtest.Buffer, port, adminPort int) *process {
	t.Helper()
	p := &process{
		t: t, cmd: cmd, log: log, exited: make(chan struct{}),
		base: fmt.Sprintf("http://127.0.0.1:%d", port), admin: fmt.Sprintf("http://127.0.0.1:%d", adminPort),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{}},
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the status is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		p.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("sluice said:\n%s", p.log)
		}
	})
	p.await("start", func() bool { return p.status(p.admin+"/healthz") == http.StatusOK })
	return p
}

// await polls until the claim holds.
func (p *process) await(what string, claim func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !claim(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %v; sluice said:\n%s", what, patience, p.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// awaitLog waits for a line with all the parts.
func (p *process) awaitLog(parts ...string) {
	p.t.Helper()
	p.await(fmt.Sprintf("log line with %q", parts), func() bool { return hasLine(p.log.String(), parts...) })
}

// hasLine reports whether a line of the log has all the parts.
func hasLine(log string, parts ...string) bool {
lines:
	for line := range strings.Lines(log) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		return true
	}
	return false
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exitStatus waits for the end of the process.
func (p *process) exitStatus() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("sluice does not end; it said:\n%s", p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// answer is what a request got; status 0 means that there was none.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// get asks the edge for a host.
func (p *process) get(host string) answer {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.base+"/", nil)
	if err != nil {
		return answer{err: err}
	}
	request.Host = host
	return p.do(request)
}

func (p *process) do(request *http.Request) answer {
	response, err := p.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

func (p *process) status(url string) int {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	return p.do(request).status
}

// metrics returns the page of metrics of the process that serves now.
func (p *process) metrics() string {
	p.client.CloseIdleConnections()
	response, err := p.client.Get(p.admin + "/metrics")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	page, _ := io.ReadAll(response.Body) // Whoever looks for something does not find it.
	return string(page)
}

// metric returns the value of a series, labels included in its name; ok is false if there is none.
func (p *process) metric(series string) (value float64, ok bool) {
	p.t.Helper()
	for line := range strings.Lines(p.metrics()) {
		if text, found := strings.CutPrefix(line, series+" "); found {
			if _, err := fmt.Sscan(text, &value); err != nil {
				p.t.Fatalf("the metric %s: %v", series, err)
			}
			return value, true
		}
	}
	return 0, false
}

// awaitStatus polls until the edge answers for the host with the status.
func (p *process) awaitStatus(host string, want int) answer {
	p.t.Helper()
	var a answer
	p.await(fmt.Sprintf("status %d for %s", want, host), func() bool {
		a = p.get(host)
		return a.status == want
	})
	return a
}

// routesFile writes the routes of a file driver and gives the flag for it.
func routesFile(t *testing.T, routes map[string]string) string {
	t.Helper()
	var entries []string
	for host, backend := range routes {
		entries = append(entries, fmt.Sprintf(`"frontend:%s": ["test", %q]`, host, backend))
	}
	return "--driver=file:" + writeFile(t, filepath.Join(t.TempDir(), "routes.json"), "{"+strings.Join(entries, ",")+"}")
}
