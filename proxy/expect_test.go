package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

const expects = "Expect: 100-continue"

// continued reads a 100.
func (c *client) continued() {
	c.t.Helper()
	if a := c.answer("POST"); a.StatusCode != 100 {
		c.t.Fatalf("got %d %q, want 100", a.StatusCode, a.cause())
	}
}

// wantSilence fails the test if anything comes within d.
func (c *client) wantSilence(d time.Duration) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	if p, err := c.r.Peek(1); err == nil {
		rest, _ := c.r.Peek(c.r.Buffered())
		c.t.Errorf("got %q (%q), want silence", rest, p)
	}
	_ = c.SetReadDeadline(time.Now().Add(6 * patience))
}

// carriesExpect checks that the backend is asked, as the client asked us.
func carriesExpect(q *backendtest.Request) error {
	if got := q.Values("Expect"); len(got) != 1 || got[0] != "100-continue" {
		return fmt.Errorf("Expect %q, want 100-continue once", got)
	}
	return nil
}

// The backend's 100 is what lets the client send.
func TestExpect_BackendContinues(t *testing.T) {
	t.Parallel()
	for _, framing := range []struct{ field, body string }{
		{"Content-Length: 5", "hello"},
		{"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
		{"Content-Length: 100000", strings.Repeat("x", 100000)},
	} {
		goOn := make(chan struct{})
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			q, err := c.ReadHead()
			if err != nil || carriesExpect(q) != nil {
				return
			}
			<-goOn
			_, _ = c.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
			body, err := c.Body(q)
			if err != nil {
				return
			}
			n, _ := discard(body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%06d", n)
			_, _ = c.ReadHead()
			_, _ = c.WriteString(ok)
		})
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("POST", "/", "a.example", expects, framing.field))
		c.wantSilence(150 * time.Millisecond)
		close(goOn)
		c.continued()
		c.send(framing.body)
		want := "000005"
		if len(framing.body) == 100000 {
			want = "100000"
		}
		if a := c.answer("POST"); a.StatusCode != 200 || a.body != want {
			t.Errorf("%s: %d %q, want the length %s back", framing.field, a.StatusCode, a.body, want)
		}
		c.wantAlive("a.example")
	}
}

// A backend that keeps silent for a second gets the body all the same.
func TestExpect_SilentBackendGetsTheBody(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b") // It reads the body before it says a word.
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	start := time.Now()
	c.send(request("POST", "/", "a.example", expects, "Content-Length: 5"))
	c.continued()
	if d := time.Since(start); d < 900*time.Millisecond || d > 5*time.Second {
		t.Errorf("told to go on after %v, want a second", d)
	}
	c.send("hello")
	if q := c.answer("POST").echoed(t); q.BodyBytes != 5 {
		t.Errorf("backend got %d bytes", q.BodyBytes)
	}
	c.wantAlive("a.example")
}

// A final answer without a 100 goes to the client at once; the body never travels.
func TestExpect_FinalAnswerInstead(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(carriesExpect),
		backendtest.Send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"), backendtest.WaitEnd(patience))
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("POST", "/", "a.example", expects, "Content-Length: 5"))
	a := c.answer("POST")
	if a.StatusCode != 403 || a.body != "no" || !a.Close {
		t.Errorf("got %d %q, close %v; want 403 and the connection's end: the client may send or not", a.StatusCode, a.body, a.Close)
	}
	eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
	for _, err := range b.Faults() {
		t.Errorf("backend: %v", err)
	}
}

// Lookup, limits and choice come first: nobody sends a body for an answer that is settled.
func TestExpect_RefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "dead.example": {"d", backendtest.Refused(t)}}, func(s *setup) {
		s.MaxBodyBytes = 100
	})
	for _, tt := range []struct {
		host, length string
		status       int
		cause        string
	}{
		{"unknown.example", "5", 400, "unknown_host"},
		{"dead.example", "5", 502, "connect_failed"},
		{"a.example", "101", 413, "body_too_large"},
	} {
		c := e.dial()
		c.send(request("POST", "/", tt.host, expects, "Content-Length: "+tt.length))
		a := c.answer("POST")
		wantStatus(t, a, tt.status, tt.cause)
		if !a.Close {
			t.Errorf("%s: the connection goes on although a body may follow", tt.cause)
		}
	}
	if n := b.Requests(); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}

// A client that does not wait gets its answer without a 100 in the way, or with one: both are legal. The body arrives once.
func TestExpect_ImpatientClient(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	start := time.Now()
	c.send(request("POST", "/", "a.example", expects, "Content-Length: 5") + "hello")
	a := c.answer("POST")
	if a.StatusCode == 100 {
		a = c.answer("POST")
	}
	if q := a.echoed(t); q.BodyBytes != 5 {
		t.Errorf("backend got %d bytes", q.BodyBytes)
	}
	if d := time.Since(start); d > 900*time.Millisecond {
		t.Errorf("a body that was there waited %v", d)
	}
	c.wantAlive("a.example")
}

// HTTP/1.0 has no 100: the expectation is void.
func TestExpect_HTTP10(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send("POST / HTTP/1.0\r\nHost: a.example\r\n" + expects + "\r\nContent-Length: 5\r\n\r\n")
	c.wantSilence(100 * time.Millisecond)
	c.send("hello")
	if q := c.answer("POST").echoed(t); q.BodyBytes != 5 || q.Value("Expect") != "" {
		t.Errorf("backend got %d bytes with Expect %q", q.BodyBytes, q.Value("Expect"))
	}
}

// A 100 that nobody asked for stops with us.
func TestExpect_UnaskedContinue(t *testing.T) {
	t.Parallel()
	b := backendtest.Canned(t, "HTTP/1.1 100 Continue\r\n\r\n"+ok)
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	for range 2 {
		if a := c.do("GET", "/", "a.example"); a.StatusCode != 200 || a.body != "ok" {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
	}
}

// A 103 goes to clients of HTTP/1.1 at once, and to no others.
func TestExpect_EarlyHints(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		_, _ = c.WriteString("HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n")
		select {
		case <-seen:
		case <-time.After(patience):
		}
		_, _ = c.WriteString(ok)
	})
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("GET", "/", "a.example"))
	if a := c.answer("GET"); a.StatusCode != 103 || a.Header.Get("Link") != "</x.css>" {
		t.Errorf("got %d with Link %q, want 103", a.StatusCode, a.Header.Get("Link"))
	}
	close(seen)
	if a := c.answer("GET"); a.StatusCode != 200 || a.body != "ok" {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
	old := e.dial()
	old.send("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
	if a := old.answer("GET"); a.StatusCode != 200 || a.body != "ok" {
		t.Errorf("HTTP/1.0 got %d %q", a.StatusCode, a.body)
	}
}
