package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/internal/backendtest"
)

// cutAnswers are answers to be cut at each of their bytes.
var cutAnswers = []struct {
	name, head, rest string // rest is what must be there for the answer to be complete
	toTheEnd         bool   // the body ends with the connection: every cut behind the head is an end
}{
	{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello", false},
	{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n", false},
	{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello", false},
	{"no body", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "", false},
	{"to the end", "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", "hello", true},
	{"http10", "HTTP/1.0 200 OK\r\n\r\n", "hello", true},
}

// TestCutoff_AnswerAtEveryByte ends the backend's connection behind each byte of an answer. A cut head is a 502, a cut body
// never looks complete, whether a FIN or a RST cuts it.
func TestCutoff_AnswerAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, a := range cutAnswers {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reset=%v", a.name, reset), func(t *testing.T) {
				t.Parallel()
				whole := a.head + a.rest
				b := backendtest.Raw(t, func(c *backendtest.Conn) {
					q, err := c.ReadRequest()
					if err != nil {
						return
					}
					n, _ := strconv.Atoi(q.Target[1:])
					_, _ = c.WriteString(whole[:n]) // The proxy may be gone.
					if reset {
						_ = c.Reset()
					}
				})
				e := newEdge(t, one("a.example", b.URL()))
				for n := range len(whole) + 1 {
					got, complete := cutAnswer(t, e, n)
					wantCut(t, got, complete, n, len(a.head), len(whole), a.toTheEnd, reset)
				}
				if n := b.Connects(); n != len(whole)+1 {
					t.Errorf("%d connections for %d requests that may not be repeated", n, len(whole)+1)
				}
			})
		}
	}
}

// cutAnswer asks for the first n bytes of an answer, by a method that is not retried, and reports the final one that came
// and whether it looked complete. Nothing at all is no answer.
func cutAnswer(t *testing.T, e *edge, n int) (final *answer, complete bool) {
	t.Helper()
	c := e.dial()
	defer c.Close()
	c.send(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", n))
	for {
		a, err := readAnswer(c.r, "POST")
		if a == nil || err != nil || a.StatusCode >= 200 {
			return a, err == nil
		}
	}
}

func wantCut(t *testing.T, a *answer, complete bool, n, head, whole int, toTheEnd, reset bool) {
	t.Helper()
	switch {
	case a == nil && (n >= head || reset):
		// The connection was reset before the head was out, or with it.
		if n == whole && !reset {
			t.Errorf("no answer although all of it was sent")
		}
	case a == nil:
		t.Errorf("cut behind byte %d: no answer, want 502", n)
	case n < head:
		if a.StatusCode != 502 || !complete {
			t.Errorf("head cut behind byte %d: status %d, complete %v, want a 502", n, a.StatusCode, complete)
		}
	case complete && a.StatusCode != 502 && !(n == whole || toTheEnd && !reset):
		t.Errorf("cut behind byte %d of %d: looks complete: %d %q", n, whole, a.StatusCode, a.body)
	case toTheEnd && reset && complete && a.StatusCode != 502:
		t.Errorf("reset behind byte %d: a body that ends with its connection looks complete: %q", n, a.body)
	case !reset && n == whole && !complete:
		t.Errorf("a whole answer does not look complete")
	}
}

// TestCutoff_RequestAtEveryByte ends the client's connection behind each byte of a request: by a FIN that leaves the
// other direction open, by a close, by a RST. Only the whole request is one to the backend.
func TestCutoff_RequestAtEveryByte(t *testing.T) {
	t.Parallel()
	const head = "POST /p HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
	for name, whole := range map[string]string{
		"length":  head + "Content-Length: 5\r\n\r\nhello",
		"chunked": head + "Transfer-Encoding: chunked\r\n\r\n2;a\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
		"expect":  head + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
		"no body": "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
	} {
		for end, leave := range map[string]func(*client){
			"fin":   (*client).closeWrite,
			"close": func(c *client) { _ = c.Close() },
			"reset": (*client).reset,
		} {
			t.Run(name+"/"+end, func(t *testing.T) {
				t.Parallel()
				var complete atomic.Int64
				b := backendtest.Raw(t, func(c *backendtest.Conn) {
					if _, err := c.ReadRequest(); err == nil {
						complete.Add(1)
						_, _ = c.WriteString(ok) // The proxy may be gone.
					}
				})
				e := newEdge(t, one("a.example", b.URL()))
				for n := range len(whole) {
					c := e.dial()
					c.send(whole[:n])
					leave(c)
					if end != "fin" {
						continue
					}
					if a, err := readAnswer(c.r, "POST"); err == nil && a.StatusCode < 400 {
						t.Errorf("cut behind byte %d: status %d, want none or an error", n, a.StatusCode)
					}
					_ = c.Close()
				}
				c := e.dial() // The whole request comes last: the cut ones are over when it is answered, or never count.
				c.send(whole)
				for a := c.answer("POST"); a.StatusCode != 200; a = c.answer("POST") {
					if a.StatusCode != 100 {
						t.Fatalf("whole request: status %d", a.StatusCode)
					}
				}
				eventually(t, "the end of all backend connections", func() bool { return b.OpenConns() == 0 })
				if got := complete.Load(); got != 1 {
					t.Errorf("%d complete requests reached the backend, want 1", got)
				}
			})
		}
	}
}

// TestCutoff_WrongProtocolOnATLSPort sends plain HTTP and other things where TLS is expected: the connection ends at once,
// and nothing of it is a request.
func TestCutoff_WrongProtocolOnATLSPort(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), overTLS(backendtest.SelfSigned(t, "edge.example")))
	for name, text := range map[string]string{
		"http":    request("GET", "/", "a.example"),
		"preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"ssh":     "SSH-2.0-OpenSSH_9.2\r\n",
		"zeros":   strings.Repeat("\x00", 64),
	} {
		c := e.dial()
		c.send(text)
		got, err := io.ReadAll(bufio.NewReader(c.Conn))
		if isTimeout(err) || strings.HasPrefix(string(got), "HTTP/1.1 2") {
			t.Errorf("%s: got %.60q, %v; want the connection's end", name, got, err)
		}
	}
	if n := b.Requests(); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}
