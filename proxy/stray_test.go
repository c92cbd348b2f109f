package proxy_test

import (
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// An empty line behind a body begins no request: the connection is idle, not slow.
func TestStray_EmptyLineBehindABody(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}}, func(s *setup) { s.HeaderTimeout = 200 * time.Millisecond })
	c := e.dial()
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nok\r\n")
		if a := c.answer("POST"); a.StatusCode != 200 {
			t.Fatalf("answer %d, cause %q", a.StatusCode, a.cause())
		}
		time.Sleep(400 * time.Millisecond) // longer than a head may take
	}
	c.wantAlive("a.example")
}

// Plain HTTP on a port that speaks TLS is told so, in the language that the client speaks.
func TestStray_PlainHTTPOnATLSPort(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, overTLS(backendtest.SelfSigned(t, "edge.example")))
	for _, method := range []string{"GET", "POST", "HEAD"} {
		c := e.dial()
		c.send(request(method, "/", "edge.example"))
		if a := c.answer("GET"); a.StatusCode != 400 || a.cause() != "bad_request" || a.body == "" {
			t.Errorf("%s: answer %d, cause %q, body %q", method, a.StatusCode, a.cause(), a.body)
		}
		c.wantEnd()
	}
}
