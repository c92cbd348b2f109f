package proxy_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/logtest"
)

// Heads have a size, a number of fields, and a time.
func TestLimits_Head(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) {
		s.MaxHeaderBytes, s.MaxHeaderFields, s.HeaderTimeout = 2000, 10, 300*time.Millisecond
	})
	fields := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("X-%d: x", i))
		}
		return list
	}
	for _, tt := range []struct {
		name, request string
		status        int
		cause         string
	}{
		{"head that fits", request("GET", "/", "a.example", "X: "+strings.Repeat("x", 1900)), 200, ""},
		{"head too large", request("GET", "/", "a.example", "X: "+strings.Repeat("x", 2000)), 431, "head_too_large"},
		{"head without end", "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("x", 2000), 431, "head_too_large"},
		{"target that fits", request("GET", "/"+strings.Repeat("x", 1900), "a.example"), 200, ""},
		{"target too long", request("GET", "/"+strings.Repeat("x", 2000), "a.example"), 414, "target_too_long"},
		{"target without end", "GET /" + strings.Repeat("x", 2000), 414, "target_too_long"},
		{"fields that fit", request("GET", "/", "a.example", fields(9)...), 200, ""},
		{"too many fields", request("GET", "/", "a.example", fields(10)...), 431, "head_too_large"},
		{"slow head", "GET / HTTP/1.1\r\nHost:", 408, "request_timeout"},
		{"slow first line", "G", 408, "request_timeout"},
	} {
		c := e.dial()
		c.send(tt.request)
		a := c.answer("GET")
		if a.StatusCode != tt.status || a.cause() != tt.cause {
			t.Errorf("%s: %d %q, want %d %q", tt.name, a.StatusCode, a.cause(), tt.status, tt.cause)
		}
		if tt.status != 200 {
			c.wantEnd()
		}
	}
}

// A head that trickles in gets no more time for it; one who says nothing at all is let go without a word.
func TestLimits_HeadTimeIsAbsolute(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, func(s *setup) {
		s.HeaderTimeout, s.IdleTimeout = 400*time.Millisecond, 200*time.Millisecond
	})
	c, start := e.dial(), time.Now()
	go func() {
		for range 40 {
			if _, err := c.Write([]byte("G")); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	wantStatus(t, c.answer("GET"), 408, "request_timeout")
	if d := time.Since(start); d < 350*time.Millisecond || d > 2*time.Second {
		t.Errorf("answered after %v, want 400 ms", d)
	}
	silent := e.dial()
	silent.wantEnd()
	idle := e.dial()
	idle.do("GET", "/", "__ping__")
	start = time.Now()
	idle.wantEnd()
	if d := time.Since(start); d < 150*time.Millisecond || d > 2*time.Second {
		t.Errorf("an idle connection ended after %v, want 200 ms", d)
	}
}

// Bodies have a size, by their announced length and by count.
func TestLimits_Body(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.MaxBodyBytes = limit })
	chunks := func(n int) string {
		return strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", n) + "0\r\n\r\n"
	}
	for _, tt := range []struct {
		name, field, body string
		status            int
		cause             string
	}{
		{"length at the limit", fmt.Sprintf("Content-Length: %d", limit), strings.Repeat("x", limit), 200, ""},
		{"length over it", fmt.Sprintf("Content-Length: %d", limit+1), "", 413, "body_too_large"},
		{"chunked at the limit", "Transfer-Encoding: chunked", chunks(100), 200, ""},
		{"chunked over it", "Transfer-Encoding: chunked", chunks(101), 413, "body_too_large"},
		{"chunked, far over it", "Transfer-Encoding: chunked", chunks(5000), 413, "body_too_large"},
	} {
		c := e.dial()
		go func() { _, _ = c.Write([]byte(request("POST", "/", "a.example", tt.field) + tt.body)) }()
		a := c.answer("POST")
		if a.StatusCode != tt.status || a.cause() != tt.cause {
			t.Errorf("%s: %d %q, want %d %q", tt.name, a.StatusCode, a.cause(), tt.status, tt.cause)
		}
		if a.Close != (tt.status == 413) {
			t.Errorf("%s: close is %v", tt.name, a.Close)
		}
	}
}

// A backend's head has limits too, wider ones: what exceeds them is a bad answer, not somebody's memory.
func TestLimits_AnswerHead(t *testing.T) {
	t.Parallel()
	const end = "Content-Length: 2\r\n\r\nok"
	for _, tt := range []struct {
		name, answer string
		status       int
	}{
		{"large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 60<<10) + "\r\n" + end, 200},
		{"too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n" + end, 502},
		{"many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: x\r\n", 490) + end, 200},
		{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: x\r\n", 510) + end, 502},
		{"interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 16) + "HTTP/1.1 200 OK\r\n" + end, 200},
		{"too many interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 40), 502},
	} {
		b := backendtest.Canned(t, tt.answer)
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		a := c.answer("GET")
		for a.StatusCode == 103 {
			a = c.answer("GET")
		}
		cause := ""
		if tt.status == 502 {
			cause = "bad_answer"
		}
		if a.StatusCode != tt.status || a.cause() != cause {
			t.Errorf("%s: %d %q, want %d %q", tt.name, a.StatusCode, a.cause(), tt.status, cause)
		}
	}
}

// At MaxConnections new clients wait in the kernel's queue, and are served when others leave.
func TestLimits_MaxConnectionsWaits(t *testing.T) {
	t.Parallel()
	var ops logtest.Buffer
	e := newEdge(t, routeList{}, func(s *setup) { s.MaxConnections, s.opsLog = 2, &ops })
	first, second := e.dial(), e.dial()
	first.do("GET", "/", "__ping__")
	second.do("GET", "/", "__ping__")
	third := e.dial()
	third.send(request("GET", "/", "__ping__"))
	third.wantSilence(200 * time.Millisecond)
	first.do("GET", "/", "__ping__") // Those who are in are unharmed.
	_ = second.Close()
	if a := third.answer("GET"); a.StatusCode != 200 {
		t.Errorf("the one who waited got %d", a.StatusCode)
	}
	if text := ops.String(); !strings.Contains(text, "connection limit reached") || !strings.Contains(text, "server.maxConnections=2") {
		t.Errorf("the limit is not in the log:\n%s", text)
	}
	if n := e.metric(`sluice_limited_total{limit="max_connections"}`); n < 1 {
		t.Errorf("%v waits counted", n)
	}
	e.awaitMetric("sluice_connections", 2)
}

// At MaxConnectionsPerIP an address gets no further connection until one of its own ends.
func TestLimits_MaxConnectionsPerIP(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, func(s *setup) { s.MaxConnectionsPerIP = 2 })
	first, second := e.dial(), e.dial()
	first.do("GET", "/", "__ping__")
	second.do("GET", "/", "__ping__")
	e.dial().wantEnd()
	e.awaitMetric(`sluice_limited_total{limit="max_connections_per_ip"}`, 1)
	_ = second.Close()
	e.awaitMetric("sluice_connections", 1)
	if a := e.get("__ping__"); a.StatusCode != 200 {
		t.Errorf("after one has left: %d", a.StatusCode)
	}
}

// A full backend: another one first, then a queue, then 503; nobody is marked.
func TestLimits_MaxBackendConnections(t *testing.T) {
	t.Parallel()
	full := newWaiting(t, "")
	free := backendtest.Echo(t, "free")
	e := newEdge(t, routeList{
		"one.example": {"one", full.URL()}, "two.example": {"two", full.URL(), free.URL()},
	}, func(s *setup) { s.MaxBackendConnections = 1 })
	holder := e.dial()
	holder.send(request("GET", "/", "one.example"))
	<-full.got

	for range 20 {
		e.awaitInFlight(1) // A place is given back behind the answer's last byte.
		if a := e.get("two.example"); a.Header.Get("X-Backend") != "free" {
			t.Fatalf("got %d %q, want the backend that is free", a.StatusCode, a.cause())
		}
	}

	queued, start := e.dial(), time.Now()
	queued.send(request("GET", "/", "one.example"))
	time.Sleep(100 * time.Millisecond) // It is in the queue, which is as long as the limit.
	wantStatus(t, e.get("one.example"), 503, "backend_busy")
	if d := time.Since(start); d > 900*time.Millisecond {
		t.Errorf("beyond the queue the answer took %v, want at once", d)
	}
	wantStatus(t, queued.answer("GET"), 503, "backend_busy")
	if d := time.Since(start); d < 900*time.Millisecond || d > 5*time.Second {
		t.Errorf("the queue was left after %v, want a second", d)
	}
	if n := e.metric(`sluice_limited_total{limit="max_backend_connections"}`); n < 2 {
		t.Errorf("%v limited requests counted", n)
	}

	next := e.dial()
	next.send(request("GET", "/", "one.example"))
	time.Sleep(50 * time.Millisecond)
	holder.reset()
	select {
	case <-full.got: // A place that is given back goes to the queue.
	case <-time.After(patience):
		t.Error("the queue does not move")
	}
	if n := e.metric("sluice_backend_marks_total"); n != 0 {
		t.Errorf("%v marks, want none", n)
	}
}

// When all backends are full, a request that queues takes whichever place is freed first, also if it stands behind a backend
// that is stuck.
func TestLimits_QueueTakesAnyPlace(t *testing.T) {
	t.Parallel()
	stuck, moving := newWaiting(t, ""), backendtest.HTTP(t, backendtest.Slow(300*time.Millisecond, 0, "moved"))
	e := newEdge(t, routeList{
		"stuck.example": {"stuck", stuck.URL()}, "moving.example": {"moving", moving.URL()},
		"both.example": {"both", stuck.URL(), moving.URL()},
	}, func(s *setup) { s.MaxBackendConnections = 1 })
	e.dial().send(request("GET", "/", "stuck.example"))
	<-stuck.got
	for range 6 { // Each stands behind either backend, by chance.
		holder := e.dial()
		holder.send(request("GET", "/", "moving.example"))
		e.awaitInFlight(2)
		if a := e.get("both.example"); a.StatusCode != 200 || a.body != "moved" {
			t.Errorf("got %d %q, want the answer of the backend that has room again", a.StatusCode, a.cause())
		}
		holder.answer("GET")
		e.awaitInFlight(1)
	}
}

// Tunnels have a limit of their own.
func TestLimits_MaxTunnels(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send(switching), backendtest.EchoBytes())
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.MaxTunnels, s.MaxBackendConnections = 2, 1 })
	var open []*client
	for range 2 { // Tunnels hold no place among the backend's requests.
		c := e.dial()
		c.send(request("GET", "/", "a.example", upgradeFields...))
		if a, err := readAnswerHead(c.r, "GET"); err != nil || a.StatusCode != 101 {
			t.Fatalf("got %v, %v; want 101", a, err)
		}
		open = append(open, c)
	}
	e.awaitMetric("sluice_tunnels", 2)
	wantStatus(t, e.get("a.example", upgradeFields...), 503, "backend_busy")
	e.awaitMetric(`sluice_limited_total{limit="max_tunnels"}`, 1)
	if n := b.Requests(); n != 2 {
		t.Errorf("the backend was asked for %d tunnels, want 2: nobody could follow another one", n)
	}
	open[0].reset()
	e.awaitMetric("sluice_tunnels", 1)
	c := e.dial()
	c.send(request("GET", "/", "a.example", upgradeFields...))
	if a, err := readAnswerHead(c.r, "GET"); err != nil || a.StatusCode != 101 {
		t.Errorf("after one has ended: %v, %v; want 101", a, err)
	}
}

// descriptorsChild tells the test binary that it is the process with few file descriptors.
const descriptorsChild = "SLUICE_TEST_FEW_DESCRIPTORS"

// A process that runs out of file descriptors serves on when it has some again. The limit holds for a whole process, hence
// another one.
func TestLimits_DescriptorsRunOut(t *testing.T) {
	if os.Getenv(descriptorsChild) != "" {
		serveWithFewDescriptors(t)
		return
	}
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLimits_DescriptorsRunOut$", "-test.v", "-test.timeout=60s")
	child.Env = append(os.Environ(), descriptorsChild+"=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func serveWithFewDescriptors(t *testing.T) {
	e := newEdge(t, routeList{})
	e.get("__ping__")
	before := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	last, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0) // It can connect when no other can be made.
	if err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for { // Each connection takes two: its client's end is ours too.
		c, err := net.Dial("tcp4", e.addr)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	if len(conns) == 0 {
		t.Fatal("no connection could be made at all")
	}
	if err := syscall.Connect(last, &syscall.SockaddrInet4{Port: e.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "accept to fail", func() bool {
		return e.metric(`sluice_limited_total{limit="file_descriptors"}`) >= 1
	})
	for _, c := range conns {
		_ = c.Close()
	}
	_ = syscall.Close(last)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if a := e.get("__ping__"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}
