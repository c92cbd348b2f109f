package proxy_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// waiting is a backend that reads a request and then waits for the end of its connection, which it tells.
type waiting struct {
	*backendtest.Backend
	got   chan struct{} // a request has come
	ended chan error    // the edge ended the connection
}

// newWaiting sends the first bytes of an answer, if any, before it waits.
func newWaiting(t testing.TB, first string) *waiting {
	w := &waiting{got: make(chan struct{}, 8), ended: make(chan error, 8)}
	w.Backend = backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		_, _ = c.WriteString(first)
		w.got <- struct{}{}
		_, err := io.Copy(io.Discard, c)
		w.ended <- err
	})
	return w
}

// canceled fails the test unless the backend's connection ends within d.
func (w *waiting) canceled(t *testing.T, d time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-w.ended:
	case <-time.After(d):
		t.Errorf("the backend was not canceled within %v", d)
	}
	return time.Since(start)
}

// A client that resets its connection cancels the backend's work: within 100 ms, here with slack.
func TestClientGone_ResetCancels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, first, fields, body string }{
		{"before the answer", "", "X-Y: 1", ""},
		{"small body", "", "Content-Length: 5", "hello"},
		{"streamed body, complete", "", "Content-Length: 40000", strings.Repeat("x", 40000)},
		{"streamed body, half", "", "Content-Length: 40000", strings.Repeat("x", 20000)},
		{"in the answer", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "X-Y: 1", ""},
		{"in an event stream", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "X-Y: 1", ""},
		{"pipelined", "", "X-Y: 1", request("GET", "/second", "a.example")},
	} {
		w := newWaiting(t, tt.first)
		e := newEdge(t, one("a.example", w.URL(), w.URL()+"/twin"))
		c := e.dial()
		c.send(request("POST", "/", "a.example", tt.fields) + tt.body)
		<-w.got
		if tt.first != "" {
			if _, err := c.r.ReadByte(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond) // A long wait: the client is being watched.
		c.reset()
		w.canceled(t, 500*time.Millisecond)
		wantGone(t, e, tt.name)
		if n := w.Requests(); n != 1 {
			t.Errorf("%s: the backends got %d requests, want one", tt.name, n)
		}
	}
}

// wantGone checks that a client's leaving is its own doing: 499 in log and metrics, no mark, no retry.
func wantGone(t *testing.T, e *edge, name string) {
	t.Helper()
	e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 1)
	if line := e.awaitLog(1)[0]; !strings.Contains(line, `HTTP/1.1" 499 `) {
		t.Errorf("%s: log line %q", name, line)
	}
	e.awaitMetric(`sluice_requests_total{status="4xx"}`, 1)
	for _, series := range []string{"sluice_backend_marks_total", `sluice_retries_total{cause="backend_reset"}`} {
		if n := e.metric(series); n != 0 {
			t.Errorf("%s: %s is %v", name, series, n)
		}
	}
}

// A FIN is no proof that the client has gone: its request is given up when halfCloseGrace passes without an answer.
func TestClientGone_FINAfterGrace(t *testing.T) {
	t.Parallel()
	w := newWaiting(t, "")
	e := newEdge(t, one("a.example", w.URL()), func(s *setup) { s.HalfCloseGrace = 300 * time.Millisecond })
	c := e.dial()
	c.send(request("GET", "/", "a.example"))
	<-w.got
	c.closeWrite()
	if d := w.canceled(t, 1500*time.Millisecond); d < 250*time.Millisecond {
		t.Errorf("canceled after %v, want 300 ms of grace", d)
	}
	c.wantEnd()
	wantGone(t, e, "FIN")
}

// A client that closes its connection in good order is found by its FIN too, whatever it has sent ahead.
func TestClientGone_CloseBehindPipelinedBytes(t *testing.T) {
	t.Parallel()
	w := newWaiting(t, "")
	e := newEdge(t, one("a.example", w.URL()), func(s *setup) { s.HalfCloseGrace = 100 * time.Millisecond })
	c := e.dial()
	c.send(request("GET", "/", "a.example") + request("GET", "/second", "a.example"))
	<-w.got
	_ = c.Close()
	w.canceled(t, 500*time.Millisecond)
	wantGone(t, e, "close")
}

// A client that half-closes gets its answer, all of it, as long as the first byte comes within the grace.
func TestClientGone_HalfCloseIsServed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before time.Duration
		during time.Duration
	}{
		{"at once", 0, 0},
		{"late head", 250 * time.Millisecond, 0},
		{"slow body", 0, 800 * time.Millisecond},
	} {
		b := backendtest.HTTP(t, backendtest.Slow(tt.before, tt.during, "whole"))
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.HalfCloseGrace = 600 * time.Millisecond })
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		c.closeWrite()
		if a := c.answer("GET"); a.StatusCode != 200 || a.body != "whole" {
			t.Errorf("%s: %d %q", tt.name, a.StatusCode, a.body)
		}
		c.wantEnd()
	}
}

// A FIN in the middle of a request body is the client's leaving: the backend must not take what it got for the whole.
func TestClientGone_BodyCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, field, body string }{
		{"length, small", "Content-Length: 10", "hello"},
		{"length, streamed", "Content-Length: 100000", strings.Repeat("x", 50000)},
		{"chunked, in a chunk", "Transfer-Encoding: chunked", "5\r\nhel"},
		{"chunked, after a chunk", "Transfer-Encoding: chunked", "5\r\nhello\r\n"},
		{"chunked, after the last", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"},
	} {
		whole := make(chan bool, 1)
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			_, err := c.ReadRequest()
			whole <- err == nil
		})
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("POST", "/", "a.example", tt.field) + tt.body)
		c.closeWrite()
		c.wantEnd()
		e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 1)
		if b.Connects() > 0 && <-whole {
			t.Errorf("%s: the backend took the cut body for a whole one", tt.name)
		}
	}
}

// A client that leaves while its request waits for a full backend frees nobody's place but its own.
func TestClientGone_NextRequestIsUnharmed(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	slow := newWaiting(t, "")
	e := newEdge(t, routeList{"slow.example": {"s", slow.URL()}, "a.example": {"a", b.URL()}}, func(s *setup) {
		s.MaxBackendConnections = 1
	})
	for range 5 {
		c := e.dial()
		c.send(request("GET", "/", "slow.example"))
		<-slow.got
		c.reset()
		slow.canceled(t, time.Second)
	}
	if a := e.get("a.example"); a.StatusCode != 200 {
		t.Errorf("another frontend: %d", a.StatusCode)
	}
	e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 5)
}

// A client that leaves while a connection is made for it ends that, by a reset at once and by a FIN after the grace: nobody is
// marked, and nobody else is tried.
func TestClientGone_WhileConnecting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		backend func(t testing.TB) string
	}{
		{"dialling", func(t testing.TB) string { return backendtest.BlackHole(t) }},
		{"TLS handshake", func(t testing.TB) string {
			return "https://" + backendtest.Raw(t, func(c *backendtest.Conn) { _, _ = discard(c) }).Addr()
		}},
	} {
		for _, leave := range []struct {
			name string
			do   func(c *client)
			min  time.Duration
		}{
			{"reset", func(c *client) { c.reset() }, 0},
			{"FIN", func(c *client) { c.closeWrite() }, 250 * time.Millisecond},
		} {
			url := tt.backend(t)
			e := newEdge(t, one("a.example", url, url+"/twin"), func(s *setup) { s.HalfCloseGrace = 300 * time.Millisecond })
			c := e.dial()
			c.send(request("GET", "/", "a.example"))
			e.awaitInFlight(1)
			time.Sleep(100 * time.Millisecond) // A long wait: the client is being watched.
			start := time.Now()
			leave.do(c)
			e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 1)
			if d := time.Since(start); d < leave.min || d > leave.min+time.Second {
				t.Errorf("%s, %s: given up after %v", tt.name, leave.name, d)
			}
			wantGone(t, e, tt.name+", "+leave.name)
			e.awaitInFlight(0)
			if n := e.metric("sluice_attempts_total"); n != 1 {
				t.Errorf("%s, %s: %v attempts, want one", tt.name, leave.name, n)
			}
		}
	}
}

// A client that leaves the queue in front of a full backend leaves no trace in it.
func TestClientGone_WhileQueueing(t *testing.T) {
	t.Parallel()
	full := newWaiting(t, "")
	e := newEdge(t, one("a.example", full.URL()), func(s *setup) {
		s.MaxBackendConnections, s.HalfCloseGrace = 1, 200*time.Millisecond
	})
	holder := e.dial()
	holder.send(request("GET", "/", "a.example"))
	<-full.got
	for i, leave := range []func(c *client){(*client).reset, (*client).closeWrite} {
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		e.awaitInFlight(2)
		start := time.Now()
		leave(c)
		e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, float64(i+1))
		if d := time.Since(start); d > 800*time.Millisecond {
			t.Errorf("the queue was left after %v", d)
		}
		e.awaitInFlight(1)
	}
	if n := e.metric(`sluice_limited_total{limit="max_backend_connections"}`); n != 0 {
		t.Errorf("%v requests limited, want none", n)
	}
	if n := full.Requests(); n != 1 {
		t.Errorf("the backend got %d requests, want one", n)
	}
}
