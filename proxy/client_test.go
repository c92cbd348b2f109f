package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// client is one raw connection to an edge.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(6 * patience))
	return &client{Conn: c, t: t, r: bufio.NewReader(c)}
}

// request is a request as text, without a body.
func request(method, target, host string, fields ...string) string {
	text := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, f := range fields {
		text += f + "\r\n"
	}
	return text + "\r\n"
}

// send writes raw bytes.
func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// answer is what a client got for one request.
type answer struct {
	*http.Response
	body string
}

// cause returns the X-Sluice-Error of an answer.
func (a *answer) cause() string { return a.Header.Get("X-Sluice-Error") }

// echoed decodes the answer of an echo backend.
func (a *answer) echoed(t testing.TB) *backendtest.Echoed {
	t.Helper()
	q, err := backendtest.ParseEcho([]byte(a.body))
	if err != nil {
		t.Fatalf("status %d, cause %q: %v", a.StatusCode, a.cause(), err)
	}
	return q
}

// readAnswer reads one whole answer, final or not.
func readAnswer(r *bufio.Reader, method string) (*answer, error) {
	a, err := readAnswerHead(r, method)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(a.Body)
	a.body = string(body)
	if err != nil {
		return a, fmt.Errorf("read body after %d bytes: %w", len(body), err)
	}
	return a, nil
}

// readAnswerHead reads the head; the body is left to the caller.
func readAnswerHead(r *bufio.Reader, method string) (*answer, error) {
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("read answer to %s: %w", method, err)
	}
	return &answer{Response: resp}, nil
}

// answer reads one whole answer.
func (c *client) answer(method string) *answer {
	c.t.Helper()
	a, err := readAnswer(c.r, method)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// do sends a request and reads its answer.
func (c *client) do(method, target, host string, fields ...string) *answer {
	c.t.Helper()
	c.send(request(method, target, host, fields...))
	return c.answer(method)
}

// wantEnd fails the test unless the connection ends without another byte.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || isTimeout(err) {
		c.t.Errorf("connection goes on with %.80q, %v; want its end", rest, err)
	}
}

// wantAlive fails the test unless the connection answers another request.
func (c *client) wantAlive(host string) {
	c.t.Helper()
	if a := c.do("GET", "/alive", host); a.StatusCode != 200 {
		c.t.Errorf("next request on the connection: status %d, want 200", a.StatusCode)
	}
}

// reset ends the connection with an RST.
func (c *client) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// closeWrite sends a FIN.
func (c *client) closeWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// wantStatus fails the test unless an answer has a status and, for answers of our own, a cause.
func wantStatus(t testing.TB, a *answer, status int, cause string) {
	t.Helper()
	if a.StatusCode != status || a.cause() != cause {
		t.Errorf("got %d with cause %q, want %d with %q", a.StatusCode, a.cause(), status, cause)
	}
}

// ok is a small answer that keeps its connection.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// discard reads to the end and returns how many bytes came.
func discard(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
