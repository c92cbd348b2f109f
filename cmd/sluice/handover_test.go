package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

// deployOneHost starts a deployment with one host, whose backend says hello.
func deployOneHost(t *testing.T, args ...string) *deployment {
	t.Helper()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	d := newDeployment(t, append(args, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log=none")...)
	d.serves()
	return d
}

// serves asks the deployment for a page over a connection that nobody waits for afterwards.
func (d *deployment) serves() {
	d.t.Helper()
	defer d.client.CloseIdleConnections()
	if a := d.get("www.example.com"); a.status != http.StatusOK || a.err != nil {
		d.t.Errorf("got %+v; want 200", a)
	}
}

func TestHandover_FailureLeavesTheOldProcess(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, `{}`)
	d := deployOneHost(t, "-c", file)
	taken := backendtest.Silent(t)
	tests := []struct {
		name   string
		damage func()
		parts  []string // of the line that says why
		reason string   // what the new process said itself
	}{
		{
			"mistake in the configuration", func() { writeFile(t, file, `{"server": {"retryOnEror": 1}}`) },
			[]string{"not handed over, this process goes on serving", "exit status 1"},
			`did you mean "server.retryOnError"?`,
		},
		{
			"port taken", func() { writeFile(t, file, `{"https": {"bind": "`+taken.Addr()+`", "cert": "x", "key": "y"}}`) },
			[]string{"not handed over", "exit status 1"},
			"another process has that port",
		},
		{
			"no program", func() { _ = os.Remove(d.binary) },
			[]string{"not handed over", "can't start", d.binary},
			"",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outer := d.t
			d.t = t
			defer func() { d.t = outer }()
			tt.damage()
			before := len(d.log.String())
			d.kill(d.pid, syscall.SIGUSR2)
			d.await(fmt.Sprintf("log with %q and %q", tt.parts, tt.reason), func() bool {
				said := d.log.String()[before:]
				return strings.Contains(said, tt.reason) && hasLine(said, tt.parts...)
			})
			d.serves()
		})
	}
	writeFile(t, file, `{}`)
	installBinary(t, d.binary)
	if status := d.exitStatusOf(d.handOver()); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	d.serves()
}

func TestHandover_StoreAway(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	store := redistest.Start(t)
	store.Do("RPUSH", "frontend:www.example.com", "test", backend.URL())
	d := newDeployment(t, "--driver="+store.URL(), "--server-access-log=none")
	d.awaitStatus("www.example.com", http.StatusOK)
	store.Kill()

	d.kill(d.pid, syscall.SIGUSR2)
	d.awaitPID("taking over", d.pid)
	d.kill(d.pid, syscall.SIGUSR2)
	d.awaitLog("not handed over", "one is under way")
	d.awaitLog("the store has not answered", "the old process has routes")
	d.awaitLog("not handed over, this process goes on serving")
	d.serves()

	before := len(d.log.String())
	d.kill(d.pid, syscall.SIGUSR2)
	d.await("another new process", func() bool { return hasLine(d.log.String()[before:], "taking over") })
	d.kill(d.pid, syscall.SIGTERM)
	if status := d.exitStatusOf(d.pid); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	d.await("end of the process that was not ready", func() bool { return len(d.running()) == 0 })
}

func TestHandover_NoRoutesToLose(t *testing.T) {
	t.Parallel()
	store := redistest.Start(t)
	store.Kill()
	d := newDeployment(t, "--driver="+store.URL(), "--server-access-log=none")
	if status := d.exitStatusOf(d.handOver()); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	d.awaitLog("starting without", "the old process has no routes either")
	if a := d.get("www.example.com"); a.status != http.StatusServiceUnavailable {
		t.Errorf("got %+v; want 503", a)
	}
}

func TestHandover_TunnelsGoOn(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.WebSocketEcho())
	d := newDeployment(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}),
		"--server-access-log=none", "--server-drain-timeout=3")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, d.base+"/", &websocket.DialOptions{Host: "www.example.com", HTTPClient: d.client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	echo := func() error {
		if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			return err
		}
		_, _, err := conn.Read(ctx)
		return err
	}
	old := d.handOver()
	begun := time.Now()
	d.kill(d.pid, syscall.SIGUSR2)
	d.awaitLog("not handed over", fmt.Sprintf("the process before this one (pid %d) still drains", old))
	d.kill(old, syscall.SIGUSR2)
	d.awaitLog("not handed over: sluice is draining")
	d.kill(old, syscall.SIGTERM)
	d.awaitLog("draining already, after a handover")
	if err := echo(); err != nil {
		t.Errorf("the tunnel ended with the handover: %v", err)
	}
	if _, _, err := conn.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the tunnel does not end: %v", err)
	}
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("the tunnel was cut after %v, want 3 s", took)
	}
	if status := d.exitStatusOf(old); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
}

// TestHandover_KeptConnections: a connection that was idle meanwhile takes one more request, on the
// public and on the admin listener.
func TestHandover_KeptConnections(t *testing.T) {
	t.Parallel()
	d := deployOneHost(t)
	d.client.CloseIdleConnections()
	kept := map[string]*keptConn{
		"public": keep(t, d.base, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"),
		"ping":   keep(t, d.base, "GET / HTTP/1.1\r\nHost: __ping__\r\n\r\n"),
		"admin":  keep(t, d.admin, "GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n"),
	}
	for name, c := range kept {
		if a := c.ask(); a.StatusCode != http.StatusOK || a.Close {
			t.Errorf("%s before: %d, closing %t; want 200 and an open connection", name, a.StatusCode, a.Close)
		}
	}
	old := d.handOver()
	d.awaitLog("handed over, draining")
	for name, c := range kept {
		if a := c.ask(); a.StatusCode != http.StatusOK || !a.Close {
			t.Errorf("%s after: %d, closing %t; want 200 and Connection: close", name, a.StatusCode, a.Close)
		}
	}
	if status := d.exitStatusOf(old); status != exitOK { // long before drainTimeout
		t.Errorf("exit status %d, want 0", status)
	}
	if got := d.status(d.admin + "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz of the new process = %d, want 200", got)
	}
}

// keptConn is a connection that always sends the same request.
type keptConn struct {
	t       *testing.T
	conn    net.Conn
	reader  *bufio.Reader
	request string
}

func keep(t *testing.T, base, request string) *keptConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		t.Fatal(err)
	}
	return &keptConn{t, conn, bufio.NewReader(conn), request}
}

func (c *keptConn) ask() *http.Response {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, c.request); err != nil {
		c.t.Fatal(err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		c.t.Fatal(err)
	}
	return response
}

// TestHandover_StopClosesTheSockets: what was kept for a next process must not hold them open, else
// clients of a stopped edge would wait in a queue.
func TestHandover_StopClosesTheSockets(t *testing.T) {
	t.Parallel()
	backend := backendtest.Silent(t)
	d := newDeployment(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log=none")
	d.exitStatusOf(d.handOver())
	go d.get("www.example.com") // ends with the process
	d.await("request at the backend", func() bool { return backend.Connects() > 0 })
	d.kill(d.pid, syscall.SIGTERM)
	d.await("refused connections", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.base, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	time.Sleep(2 * echoSpan)       // sooner it would be taken for the first one
	d.kill(d.pid, syscall.SIGTERM) // the process is still there
	if status := d.exitStatusOf(d.pid); status != exitFailed {
		t.Errorf("exit status %d, want %d", status, exitFailed)
	}
}

// TestHandover_AsAnotherUser: the new process has no root to bind its port with, and needs none.
func TestHandover_AsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	folder := openFolder(t)
	routes := writeFile(t, filepath.Join(folder, "routes.json"), "{}")
	logFile := filepath.Join(folder, "logs", "access.log")
	port := rootPort(t)
	d := newDeploymentOn(t, port, fmt.Sprintf("--http-port=%d", port), "--driver=file:"+routes, "--user=www-data", "--server-access-log="+logFile)
	if status := d.exitStatusOf(d.handOver()); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	d.awaitStatus("www.example.com", http.StatusBadRequest)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid))
	if err != nil || strings.Contains(string(status), "\nUid:\t0") {
		t.Errorf("the new process is root again, %v:\n%s", err, status)
	}
	if strings.Contains(d.log.String(), "only a process started as root") {
		t.Error("the new process complains of the user that it has")
	}
}

// rootPort finds a port that only root can bind.
func rootPort(t *testing.T) int {
	t.Helper()
	for port := 1023; port > 600; port-- {
		if ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = ln.Close() // nothing has connected
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
