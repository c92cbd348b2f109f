package proxy

import (
	"fmt"
	"testing"
)

// judgeResponse scans and judges the head of an answer.
func judgeResponse(raw string, toHead bool) (*response, bool) {
	r := &response{}
	r.reset()
	n, bad := r.scan([]byte(raw), &lenientRules)
	if bad != KindNone || n == 0 {
		return r, false
	}
	return r, r.judge(toHead)
}

func TestResponse_StatusLine(t *testing.T) {
	t.Parallel()
	accept := func(line string, status int, reason string) {
		t.Helper()
		r, ok := judgeResponse(line+"\r\n\r\n", false)
		if !ok || r.status != status || string(r.reason) != reason {
			t.Errorf("%q: got %v, %d, %q", line, ok, r.status, r.reason)
		}
	}
	refuse := func(line string) {
		t.Helper()
		if _, ok := judgeResponse(line+"\r\n\r\n", false); ok {
			t.Errorf("%q is accepted", line)
		}
	}
	accept("HTTP/1.1 200 OK", 200, " OK")
	accept("HTTP/1.1 200 ", 200, " ")
	accept("HTTP/1.1 200", 200, "")
	accept("HTTP/1.0 200 OK", 200, " OK")
	accept("HTTP/1.9 200 OK", 200, " OK")
	accept("HTTP/1.1 404 N\xf8t  F\tund ", 404, " N\xf8t  F\tund ")
	accept("HTTP/1.1 100 Continue", 100, " Continue")
	accept("HTTP/1.1 599 x", 599, " x")
	accept("HTTP/1.1 299 x", 299, " x")

	for _, line := range []string{
		"HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/1.1 200OK", "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK",
		"HTTP/2 200 OK", "HTTP/2.0 200 OK", "HTTP/0.9 200 OK", "HTTP/11 200 OK", "HTTP/1.x 200 OK", "http/1.1 200 OK",
		"HTTP/1.1 099 x", "HTTP/1.1 000 x", "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 +20 x", "HTTP/1.1 2x0 x",
		"HTTP/1.1 -200 x", "HTTP/1.1 200\tOK", "ICY 200 OK", " HTTP/1.1 200 OK", "GET / HTTP/1.1", "200 OK",
	} {
		refuse(line)
	}
}

// The table of RFC 9112 §6.3, row by row.
func TestResponse_Framing(t *testing.T) {
	t.Parallel()
	const length, chunked = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
	for _, c := range []struct {
		name     string
		start    string
		fields   string
		toHead   bool
		framing  framing
		length   int64
		reusable bool
	}{
		{"length", "HTTP/1.1 200 OK", length, false, framingLength, 5, true},
		{"no bytes", "HTTP/1.1 200 OK", "Content-Length: 0\r\n", false, framingNone, 0, true},
		{"chunked", "HTTP/1.1 200 OK", chunked, false, framingChunked, 0, true},
		{"chunked in capitals", "HTTP/1.1 200 OK", "TRANSFER-ENCODING: Chunked\r\n", false, framingChunked, 0, true},
		{"neither", "HTTP/1.1 200 OK", "", false, framingClose, 0, false},
		{"both", "HTTP/1.1 200 OK", length + chunked, false, framingChunked, 5, false},
		{"both, the other way round", "HTTP/1.1 200 OK", chunked + length, false, framingChunked, 5, false},
		{"length twice", "HTTP/1.1 200 OK", length + length, false, framingLength, 5, true},
		{"length with zeros", "HTTP/1.1 200 OK", "Content-Length: 005\r\n" + length, false, framingLength, 5, true},
		{"look-alikes", "HTTP/1.1 200 OK", "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n", false, framingClose, 0, false},
		{"folded length", "HTTP/1.1 200 OK", "Content-Length:\r\n 5\r\n", false, framingLength, 5, true},
		{"space before the colon", "HTTP/1.1 200 OK", "Content-Length : 5\r\n", false, framingLength, 5, true},

		{"to HEAD, length", "HTTP/1.1 200 OK", length, true, framingNone, 5, true},
		{"to HEAD, chunked", "HTTP/1.1 200 OK", chunked, true, framingNone, 0, true},
		{"to HEAD, neither", "HTTP/1.1 200 OK", "", true, framingNone, 0, true},
		{"204", "HTTP/1.1 204 No Content", "", false, framingNone, 0, true},
		{"204 with a length", "HTTP/1.1 204 No Content", length, false, framingNone, 5, true},
		{"204 chunked", "HTTP/1.1 204 No Content", chunked, false, framingNone, 0, true},
		{"304", "HTTP/1.1 304 Not Modified", length, false, framingNone, 5, true},
		{"205 is like any other", "HTTP/1.1 205 Reset Content", length, false, framingLength, 5, true},
		{"100", "HTTP/1.1 100 Continue", "", false, framingNone, 0, true},
		{"103 with a length", "HTTP/1.1 103 Early Hints", length, false, framingNone, 5, true},
		{"101", "HTTP/1.1 101 Switching Protocols", "", false, framingNone, 0, true},

		{"1.0, length", "HTTP/1.0 200 OK", length, false, framingLength, 5, false},
		{"1.0, length, kept", "HTTP/1.0 200 OK", "Connection: keep-alive\r\n" + length, false, framingLength, 5, true},
		{"1.0, until close", "HTTP/1.0 200 OK", "", false, framingClose, 0, false},
		{"1.0, until close, claims to be kept", "HTTP/1.0 200 OK", "Connection: keep-alive\r\n", false, framingClose, 0, false},
		{"close", "HTTP/1.1 200 OK", "Connection: close\r\n" + length, false, framingLength, 5, false},
		{"close in a list", "HTTP/1.1 200 OK", "Connection: x, Close\r\n" + length, false, framingLength, 5, false},
		{
			"close and keep-alive", "HTTP/1.0 200 OK", "Connection: keep-alive\r\nConnection: close\r\n" + length, false,
			framingLength, 5, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, ok := judgeResponse(c.start+"\r\n"+c.fields+"\r\n", c.toHead)
			if !ok {
				t.Fatal("refused")
			}
			if r.framing != c.framing || r.contentLength != c.length || r.reusable != c.reusable {
				t.Errorf("got framing %d, length %d, reusable %v; want %d, %d, %v",
					r.framing, r.contentLength, r.reusable, c.framing, c.length, c.reusable)
			}
		})
	}
}

func TestResponse_FramingRefused(t *testing.T) {
	t.Parallel()
	f := func(start, fields string) {
		t.Helper()
		for _, toHead := range []bool{false, true} {
			if r, ok := judgeResponse(start+"\r\n"+fields+"\r\n", toHead); ok {
				t.Errorf("%q is accepted with framing %d of %d", fields, r.framing, r.contentLength)
			}
		}
	}
	const ok = "HTTP/1.1 200 OK"
	for _, value := range []string{
		"", "+5", "-5", "5,5", "5, 5", "0x5", "5 5", "5.0", "a", "9223372036854775808", "00000000000000000005",
	} {
		f(ok, "Content-Length: "+value+"\r\n")
	}
	f(ok, "Content-Length: 5\r\nContent-Length: 6\r\n")
	f(ok, "Content-Length: 5\r\nContent-Length: x\r\n")
	f(ok, "Content-Length: 5\r\n 6\r\n")
	for _, value := range []string{"", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "xchunked"} {
		f(ok, "Transfer-Encoding: "+value+"\r\n")
	}
	f(ok, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")
	f(ok, "Transfer-Encoding: chunked\r\n , gzip\r\n")
	f("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n")
	f("HTTP/1.0 200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
	f("HTTP/1.1 204 No Content", "Content-Length: x\r\n")
}

func TestResponse_Switches(t *testing.T) {
	t.Parallel()
	f := func(fields, asked string, want bool) {
		t.Helper()
		r, ok := judgeResponse("HTTP/1.1 101 Switching Protocols\r\n"+fields+"\r\n", false)
		if !ok {
			t.Fatalf("%q: refused", fields)
		}
		if got := r.switches([]byte(asked)); got != want {
			t.Errorf("%q to %q: got %v, want %v", fields, asked, got, want)
		}
	}
	f("Upgrade: websocket\r\nConnection: Upgrade\r\n", "websocket", true)
	f("Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n", "websocket", true)
	f("Upgrade: websocket\r\nConnection: x\r\nConnection: upgrade\r\n", "WEBSOCKET", true)
	f("Upgrade: websocket\r\nConnection: Upgrade\r\n", "", false)
	f("Upgrade: h2c\r\nConnection: Upgrade\r\n", "websocket", false)
	f("Upgrade: websocket\r\n", "websocket", false)
	f("Connection: Upgrade\r\n", "websocket", false)
	f("", "websocket", false)
}

func TestResponse_RetryAfter(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]bool{"Retry-After: 5\r\n": true, "retry-after:\r\n": true, "Retry_After: 5\r\n": false, "": false} {
		if r, ok := judgeResponse("HTTP/1.1 503 x\r\n"+fields+"\r\n", false); !ok || r.retryAfter != want {
			t.Errorf("%q: got %v, %v, want %v", fields, ok, r.retryAfter, want)
		}
	}
}

// Interim answers and the final one are judged by the same response.
func TestResponse_Reset(t *testing.T) {
	t.Parallel()
	r, ok := judgeResponse("HTTP/1.0 103 Early Hints\r\nConnection: x, close, upgrade\r\nUpgrade: h2c\r\nRetry-After: 1\r\n"+
		"Content-Length: 7\r\n\r\n", true)
	if !ok {
		t.Fatal("refused")
	}
	r.reset()
	const final = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	if n, bad := r.scan([]byte(final), &lenientRules); n == 0 || bad != KindNone || !r.judge(false) {
		t.Fatal("refused after reset")
	}
	fresh, _ := judgeResponse(final, false)
	if got, want := fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", fresh); got != want {
		t.Errorf("after an interim answer:\n%s\nalone:\n%s", got, want)
	}
}
