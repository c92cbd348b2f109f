package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// One backend connection serves one client after another.
func TestReuse_AcrossClients(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "b.example": {"b", b.URL() + "/path"}})
	for i := range 20 {
		host := []string{"a.example", "b.example"}[i%2]
		c := e.dial()
		c.send(request("POST", "/", host, "Content-Length: 5") + "hello")
		if q := c.answer("POST").echoed(t); q.Conn != 0 || q.Request != i {
			t.Fatalf("request %d was number %d on connection %d", i, q.Request, q.Conn)
		}
		_ = c.Close()
	}
}

// What a client says about its own connection is not said to the backend, and the reverse.
func TestReuse_ClosingOneSideOnly(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	closing := backendtest.Canned(t, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "closing.example": {"c", closing.URL()}})
	for i := range 3 {
		c := e.dial()
		if q := c.do("GET", "/", "a.example", "Connection: close").echoed(t); q.Conn != 0 || q.Request != i || q.Value("Connection") != "" {
			t.Errorf("request %d was number %d on connection %d with Connection %q", i, q.Request, q.Conn, q.Value("Connection"))
		}
		c.wantEnd()
	}
	c := e.dial()
	for range 3 {
		if a := c.do("GET", "/", "closing.example"); a.StatusCode != 200 || a.Close {
			t.Errorf("got %d, close %v; want 200 and the connection to go on", a.StatusCode, a.Close)
		}
	}
	if n := closing.Connects(); n != 3 {
		t.Errorf("%d connections to a backend that closes each, want 3", n)
	}
}

// An idle connection is used for no longer than BackendIdleTimeout: the backend may be about to close it.
func TestReuse_IdleLimit(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.BackendIdleTimeout = 200 * time.Millisecond })
	c := e.dial()
	if q := c.do("GET", "/", "a.example").echoed(t); q.Conn != 0 {
		t.Fatalf("first request on connection %d", q.Conn)
	}
	time.Sleep(250 * time.Millisecond)
	if q := c.do("GET", "/", "a.example").echoed(t); q.Conn != 1 {
		t.Errorf("after the limit the request went out on connection %d, want a new one", q.Conn)
	}
	eventually(t, "the idle connections to be closed", func() bool { return b.OpenConns() == 0 })
}

// unclean are ways for a backend to leave bytes behind an answer that nobody asked for.
var unclean = []struct {
	name, method, answer, late string
}{
	{"bytes behind the answer", "GET", ok + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", ""},
	{"late bytes", "GET", ok, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"},
	{"late, to a POST", "POST", ok, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"},
	{"body after HEAD", "HEAD", ok, ""},
	{"body after 204", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged", ""},
	{"body after 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nforged", ""},
	{"late body after 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "forged"},
	{"body longer than its length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokforged", ""},
	{"bytes behind the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nforged", ""},
	{"length and chunked", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""},
	{"101 unasked", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nforged", ""},
}

// Whatever a backend leaves on a connection never becomes the answer to somebody else's request.
func TestReuse_UncleanConnectionsAreNotReused(t *testing.T) {
	t.Parallel()
	for _, tt := range unclean {
		var wg sync.WaitGroup
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			q, err := c.ReadRequest()
			if err != nil {
				return
			}
			if q.Target == "/second" {
				_, _ = c.WriteString(strings.Replace(ok, "\r\n\r\n", fmt.Sprintf("\r\nX-Conn: %d\r\n\r\n", c.Index), 1))
				_, _ = c.ReadHead()
				return
			}
			wg.Add(1)
			_, _ = c.WriteString(tt.answer)
			if tt.late != "" {
				c.Sleep(20 * time.Millisecond)
				_, _ = c.WriteString(tt.late)
			}
			wg.Done()
			if q, err = c.ReadRequest(); err == nil {
				_, _ = c.WriteString("HTTP/1.1 200 OK\r\nX-Conn: reused for " + q.Target + "\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request(tt.method, "/first", "a.example", "Content-Length: 0"))
		if a := c.answer(tt.method); strings.Contains(a.body, "forged") {
			t.Errorf("%s: first answer has body %q", tt.name, a.body)
		}
		wg.Wait()
		time.Sleep(20 * time.Millisecond) // The surplus is on its way, and has no other sign.
		a := e.do("POST", "/second", "a.example", "Content-Length: 0")
		if a.StatusCode != 200 || a.body != "ok" || a.Header.Get("X-Conn") != "1" {
			t.Errorf("%s: second answer %d %q from connection %q, want one of its own",
				tt.name, a.StatusCode, a.body, a.Header.Get("X-Conn"))
		}
	}
}

// A backend that was seen with surplus bytes gets a new connection for each request for a while.
func TestReuse_PausesAfterSurplus(t *testing.T) {
	t.Parallel()
	var rogue sync.Once
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		for {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			text := ok
			rogue.Do(func() { text += "surplus" })
			if _, err := c.WriteString(text); err != nil {
				return
			}
		}
	})
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	for range 5 {
		if a := c.do("GET", "/", "a.example"); a.body != "ok" {
			t.Errorf("got %q", a.body)
		}
	}
	if n := b.Connects(); n != 5 {
		t.Errorf("%d connections for 5 requests, want 5", n)
	}
	if n := e.metric("sluice_backend_surplus_bytes_total"); n != 1 {
		t.Errorf("%v surpluses counted, want 1", n)
	}
}

// A connection whose exchange was cut short is closed, not kept.
func TestReuse_NotAfterAHalfReadAnswer(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		for {
			q, err := c.ReadRequest()
			if err != nil {
				return
			}
			if q.Target == "/" {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Conn: %d\r\nContent-Length: 2\r\n\r\nok", c.Index)
				continue
			}
			_, _ = c.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
			for range 100 {
				if _, err := c.Write(make([]byte, 1000000)); err != nil {
					return
				}
			}
		}
	})
	e := newEdge(t, one("a.example", b.URL()))
	for i := range 3 {
		c := e.dial()
		c.send(request("GET", "/large", "a.example"))
		if _, err := readAnswerHead(c.r, "GET"); err != nil {
			t.Fatal(err)
		}
		c.reset()
		e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, float64(i+1))
		eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
	}
	if a := e.get("a.example"); a.body != "ok" || a.Header.Get("X-Conn") != "3" {
		t.Errorf("got %q from connection %s, want a new one", a.body, a.Header.Get("X-Conn"))
	}
}
