package backendtest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// timeout bounds every wait of these tests.
const timeout = 10 * time.Second

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp4", addr, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func answer(t *testing.T, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func client(c Certificate) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: c.Roots},
			DisableKeepAlives: true,
		},
	}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestEcho_KeepsOrderCaseAndTarget(t *testing.T) {
	t.Parallel()
	b := Echo(t, "one")
	c := dial(t, b.Addr())
	r := bufio.NewReader(c)
	for i := range 2 {
		send(t, c, "BREW /a//../b?x=%2f HTTP/1.1\r\nhost: h\r\nx-B: 1\r\nX-a: 2\r\nx-B:  3 \r\nContent-Length: 3\r\n\r\nabc")
		resp, body := answer(t, r, "BREW")
		e, err := ParseEcho([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("X-Backend") != "one" || e.Name != "one" {
			t.Errorf("answer comes from %q, %q; want one", resp.Header.Get("X-Backend"), e.Name)
		}
		want := []Field{{"host", "h"}, {"x-B", "1"}, {"X-a", "2"}, {"x-B", "3"}, {"Content-Length", "3"}}
		if !slices.Equal(e.Fields, want) {
			t.Errorf("fields %q, want %q", e.Fields, want)
		}
		if e.Method != "BREW" || e.Target != "/a//../b?x=%2f" || e.Conn != 0 || e.Request != i {
			t.Errorf("request %d came as %+v", i, e)
		}
		if sum := sha256.Sum256([]byte("abc")); e.BodyBytes != 3 || e.BodySHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("body of %d bytes with hash %s", e.BodyBytes, e.BodySHA256)
		}
	}
	if b.Requests() != 2 || b.Connects() != 1 {
		t.Errorf("%d requests on %d connections, want 2 on 1", b.Requests(), b.Connects())
	}
}

func TestEcho_ChunkedBodyWithTrailers(t *testing.T) {
	t.Parallel()
	c := dial(t, Echo(t, "one").Addr())
	send(t, c, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"+
		"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n")
	r := bufio.NewReader(c)
	_, body := answer(t, r, "POST")
	e, err := ParseEcho([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if e.BodyBytes != 5 || !slices.Equal(e.Trailers, []Field{{"X-T", "1"}}) {
		t.Errorf("body of %d bytes, trailers %q", e.BodyBytes, e.Trailers)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close: %v, want EOF", err)
	}
}

func TestEcho_RefusesWhatAProxyMustNotSend(t *testing.T) {
	t.Parallel()
	b := Echo(t, "one")
	for name, request := range map[string]string{
		"bare LF":            "GET / HTTP/1.1\nHost: h\r\n\r\n",
		"two lengths":        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
		"length and coding":  "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"signed length":      "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
		"blank before colon": "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
		"unknown coding":     "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, b.Addr())
			send(t, c, request)
			if resp, body := answer(t, bufio.NewReader(c), "GET"); resp.StatusCode != 400 || body == "" {
				t.Errorf("answer %d %q, want 400 with a reason", resp.StatusCode, body)
			}
		})
	}
}

func TestScripted_PlaysStepsAndKeepsFaults(t *testing.T) {
	t.Parallel()
	errCheck := errors.New("not wanted")
	s := ScriptedEach(t, func(conn int) []Step {
		if conn == 0 {
			return []Step{Whole(), Send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"), Wait(time.Millisecond), SendTimes("ab", 2), Close()}
		}
		return []Step{Whole(func(*Request) error { return errCheck })}
	})
	c := dial(t, s.Addr())
	send(t, c, "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	r := bufio.NewReader(c)
	if _, body := answer(t, r, "PUT"); body != "abab" {
		t.Errorf("body %q, want abab", body)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after Close: %v, want EOF", err)
	}
	got := s.Received()
	if len(got) != 1 || got[0].Target != "/x" || string(got[0].Body) != "hi" ||
		got[0].Head != "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n" {
		t.Errorf("received %+v", got)
	}
	if faults := s.Faults(); len(faults) != 0 {
		t.Errorf("faults %v, want none", faults)
	}

	c = dial(t, s.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after a failed check: %v, want EOF", err)
	}
	if faults := s.Faults(); len(faults) != 1 || !errors.Is(faults[0], errCheck) {
		t.Errorf("faults %v, want the check's", faults)
	}
}

func TestScripted_ResetAndWaitEnd(t *testing.T) {
	t.Parallel()
	s := Scripted(t, Head(), Reset())
	c := dial(t, s.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after Reset: %v, want ECONNRESET", err)
	}

	s = Scripted(t, Head(), WaitEnd(100*time.Millisecond), Send("unreached"))
	c = dial(t, s.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after a missed end: %v, want EOF", err)
	}
	if faults := s.Faults(); len(faults) != 1 || !strings.Contains(faults[0].Error(), "still open") {
		t.Errorf("faults %v, want one about an open connection", faults)
	}
}

func TestScripted_EchoBytesUntilFIN(t *testing.T) {
	t.Parallel()
	s := Scripted(t, Head(), Send("HTTP/1.1 101 Switching Protocols\r\n\r\n"), EchoBytes())
	c := dial(t, s.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\nraw bytes")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(all), "\r\n\r\nraw bytes") {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestBackend_KillAndRevive(t *testing.T) {
	t.Parallel()
	b := Echo(t, "one")
	c := dial(t, b.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	answer(t, bufio.NewReader(c), "GET")
	if n := b.OpenConns(); n != 1 {
		t.Errorf("%d open connections, want 1", n)
	}
	b.Kill()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a killed backend still delivers bytes")
	}
	if _, err := net.DialTimeout("tcp4", b.Addr(), timeout); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a killed backend: %v, want ECONNREFUSED", err)
	}
	if err := b.Revive(); err != nil {
		t.Fatal(err)
	}
	c = dial(t, b.Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	answer(t, bufio.NewReader(c), "GET")
	if err := b.Revive(); err == nil {
		t.Error("reviving a living backend succeeded")
	}
}

func TestCanned_AnswersEveryRequest(t *testing.T) {
	t.Parallel()
	const response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	b := Canned(t, response)
	c := dial(t, b.Addr())
	buf := make([]byte, len(response))
	for range 3 {
		send(t, c, "POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\n\r\nhello")
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != response {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	if n := b.Requests(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestHandlers(t *testing.T) {
	t.Parallel()
	cert := SelfSigned(t, "backend.example")
	tests := []struct {
		name    string
		handler http.Handler
		check   func(*http.Response, string) error
	}{
		{"text", Text(503, "no"), func(r *http.Response, body string) error {
			if r.StatusCode != 503 || body != "no" || r.ContentLength != 2 {
				return fmt.Errorf("got %d %q of %d bytes", r.StatusCode, body, r.ContentLength)
			}
			return nil
		}},
		{"chunked", Chunked(0, "a", "bc"), func(r *http.Response, body string) error {
			if body != "abc" || !slices.Equal(r.TransferEncoding, []string{"chunked"}) {
				return fmt.Errorf("got %q in %q", body, r.TransferEncoding)
			}
			return nil
		}},
		{"events", SSE(2, time.Millisecond), func(r *http.Response, body string) error {
			if body != "data: event 0\n\ndata: event 1\n\n" || r.Header.Get("Content-Type") != "text/event-stream" {
				return fmt.Errorf("got %q", body)
			}
			return nil
		}},
		{"trailers", Trailers("abc", Field{"X-T", "1"}), func(r *http.Response, body string) error {
			if body != "abc" || r.Trailer.Get("X-T") != "1" {
				return fmt.Errorf("got %q with trailers %q", body, r.Trailer)
			}
			return nil
		}},
		{"slow", Slow(time.Millisecond, time.Millisecond, "late"), func(_ *http.Response, body string) error {
			if body != "late" {
				return fmt.Errorf("got %q", body)
			}
			return nil
		}},
	}
	for _, tt := range tests {
		for _, b := range []*Backend{HTTP(t, tt.handler), HTTPS(t, cert, tt.handler)} {
			resp, body := get(t, client(cert), b.URL())
			if err := tt.check(resp, body); err != nil {
				t.Errorf("%s over %s: %v", tt.name, b.URL(), err)
			}
		}
	}
}

func TestWebSocketEcho(t *testing.T) {
	t.Parallel()
	b := HTTP(t, WebSocketEcho())
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+b.Addr(), &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "chat" {
		t.Errorf("subprotocol %q, want chat", c.Subprotocol())
	}
	for _, message := range []string{"hello", strings.Repeat("x", 100_000)} {
		if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(maxMessageBytes)
		if _, got, err := c.Read(ctx); err != nil || string(got) != message {
			t.Errorf("echo of %d bytes: %d bytes, %v", len(message), len(got), err)
		}
	}
}

func TestRefused_RefusesAtOnce(t *testing.T) {
	t.Parallel()
	if _, err := net.DialTimeout("tcp4", Refused(t), timeout); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want ECONNREFUSED", err)
	}
}

func TestBlackHole_NeitherAcceptsNorRefuses(t *testing.T) {
	t.Parallel()
	_, err := net.DialTimeout("tcp4", BlackHole(t), 500*time.Millisecond)
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("dial: %v, want a timeout", err)
	}
}

func TestSilent_NeverAnswers(t *testing.T) {
	t.Parallel()
	c := dial(t, Silent(t).Addr())
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
		t.Errorf("read %d bytes, %v; want a timeout", n, err)
	}
}
