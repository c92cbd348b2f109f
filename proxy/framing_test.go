package proxy_test

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// Trailers pass in both directions, less those that may not be there.
func TestFraming_Trailers(t *testing.T) {
	t.Parallel()
	const chunked = "Transfer-Encoding: chunked"
	b := backendtest.Scripted(t, backendtest.Loop(backendtest.Whole(), backendtest.Send(
		"HTTP/1.1 200 OK\r\n"+chunked+"\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: down\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n",
	)))
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	for range 2 {
		c.send(request("POST", "/", "a.example", chunked, "Trailer: X-Sum", "TE: trailers") +
			"5\r\nhello\r\n0\r\nX-Sum: up\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: forged\r\n\r\n")
		a := c.answer("POST")
		if got := a.Trailer; a.body != "ok" || got.Get("X-Sum") != "down" || got.Get("Content-Length") != "" || got.Get("Set-Cookie") != "" {
			t.Errorf("client got %q with trailers %q", a.body, got)
		}
	}
	for _, q := range b.Received() {
		if len(q.Trailers) != 1 || q.Trailers[0] != (backendtest.Field{Name: "X-Sum", Value: "up"}) {
			t.Errorf("backend got trailers %q", q.Trailers)
		}
	}
}

// Answers without a body have none, whatever the backend's head says, and the connection stays in step.
func TestFraming_AnswersWithoutBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ method, answer, length string }{
		{"HEAD", "200 OK\r\nContent-Length: 1000", "1000"},
		{"HEAD", "200 OK\r\nTransfer-Encoding: chunked", ""},
		{"HEAD", "200 OK", ""},
		{"GET", "204 No Content", ""},
		{"GET", "304 Not Modified\r\nContent-Length: 1000", "1000"},
		{"GET", "304 Not Modified\r\nETag: \"x\"", ""},
		{"GET", "200 OK\r\nContent-Length: 0", "0"},
	} {
		b := backendtest.Scripted(t, backendtest.Loop(backendtest.Whole(), backendtest.Send("HTTP/1.1 "+tt.answer+"\r\n\r\n")))
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		for range 3 {
			a := c.do(tt.method, "/", "a.example")
			if a.body != "" || !strings.HasPrefix(tt.answer, strconv.Itoa(a.StatusCode)) || a.Header.Get("Content-Length") != tt.length {
				t.Errorf("%s %q: %d with length %q and body %q", tt.method, tt.answer, a.StatusCode, a.Header.Get("Content-Length"), a.body)
			}
		}
		if n := b.Connects(); n != 1 {
			t.Errorf("%s %q: %d backend connections, want one", tt.method, tt.answer, n)
		}
	}
}

// Requests that come in one piece are answered one by one, in their order; each answer leaves when it is ready.
func TestFraming_Pipelining(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	slow := backendtest.Silent(t)
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "slow.example": {"s", slow.URL()}})
	c := e.dial()
	var all strings.Builder
	for i := range 50 {
		all.WriteString(request("POST", fmt.Sprintf("/%d", i), "a.example", "Content-Length: 5") + "hello")
		all.WriteString(request("POST", fmt.Sprintf("/%d/chunked", i), "a.example", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n")
	}
	all.WriteString(request("GET", "/never", "slow.example"))
	c.send(all.String())
	for i := range 50 {
		for _, suffix := range []string{"", "/chunked"} {
			q := c.answer("POST").echoed(t)
			if want := fmt.Sprintf("/%d%s", i, suffix); q.Target != want || q.BodyBytes != 5 {
				t.Fatalf("answer is for %s with %d bytes, want %s", q.Target, q.BodyBytes, want)
			}
		}
	}
}

// HTTP/1.0 clients get what they understand: no chunks, and a connection that ends unless they asked otherwise.
func TestFraming_HTTP10(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.Chunked(time.Millisecond, "one ", "two ", "three"))
	sized := backendtest.HTTP(t, backendtest.Text(200, "sized"))
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "sized.example": {"s", sized.URL()}})
	for _, field := range []string{"", "Connection: keep-alive\r\n"} {
		c := e.dial()
		c.send("GET / HTTP/1.0\r\nHost: a.example\r\n" + field + "\r\n")
		raw, err := io.ReadAll(c.r)
		if head, body, _ := strings.Cut(string(raw), "\r\n\r\n"); err != nil || body != "one two three" ||
			strings.Contains(strings.ToLower(head), "transfer-encoding") {
			t.Errorf("%q: got %q, %v", field, raw, err)
		}
	}
	c := e.dial()
	for range 3 {
		c.send("GET / HTTP/1.0\r\nHost: sized.example\r\nConnection: keep-alive\r\n\r\n")
		if a := c.answer("GET"); a.body != "sized" || !strings.EqualFold(a.Header.Get("Connection"), "keep-alive") {
			t.Errorf("got %q with Connection %q", a.body, a.Header.Get("Connection"))
		}
	}
	c.send("GET / HTTP/1.0\r\nHost: sized.example\r\n\r\n")
	if a := c.answer("GET"); a.body != "sized" {
		t.Errorf("last answer %q", a.body)
	}
	c.wantEnd()
}
