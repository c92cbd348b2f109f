package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// judgeRequest scans and judges a request head.
func judgeRequest(raw string) (*request, Kind) {
	r := &request{}
	r.reset()
	b := []byte(raw)
	n, bad := r.scan(b, &strictRules)
	switch {
	case bad != KindNone:
		return r, bad
	case n == 0:
		return r, KindRequestTimeout
	}
	return r, r.judge()
}

// mustJudge returns the judged request of a head that is accepted.
func mustJudge(t testing.TB, raw string) *request {
	t.Helper()
	r, bad := judgeRequest(raw)
	if bad != KindNone {
		t.Fatalf("%q: %v", raw, bad)
	}
	return r
}

func TestRequest_Line(t *testing.T) {
	t.Parallel()
	f := func(line string, want Kind) {
		t.Helper()
		if _, got := judgeRequest(line + "\r\nHost: h\r\n\r\n"); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "QUERY", "PROPFIND", "get", "M-SEARCH", "!#$%&'*+-.^_`|~"} {
		f(method+" / HTTP/1.1", KindNone)
	}
	f("CONNECT h:443 HTTP/1.1", KindMethodRefused)
	f("CONNECT / HTTP/1.1", KindMethodRefused)
	f("CONNECT http://h/ HTTP/1.1", KindMethodRefused)
	f("TRACE / HTTP/1.1", KindMethodRefused)
	f("TRACE http://h/ HTTP/1.1", KindMethodRefused)
	f("connect h:443 HTTP/1.1", KindBadRequest)
	f("trace / HTTP/1.1", KindNone) // Methods are case-sensitive: this is an unknown one.

	f("GET  / HTTP/1.1", KindBadRequest)
	f("GET /  HTTP/1.1", KindBadRequest)
	f("GET / a HTTP/1.1", KindBadRequest)
	f("GET /\tHTTP/1.1", KindBadRequest)
	f(" GET / HTTP/1.1", KindBadRequest)
	f("GET / HTTP/1.1 ", KindBadRequest)
	f("GET HTTP/1.1", KindBadRequest)
	f("HTTP/1.1", KindBadRequest)
	f("GE(T / HTTP/1.1", KindBadRequest)
	f("G\x80T / HTTP/1.1", KindBadRequest)
	f("GET: / HTTP/1.1", KindBadRequest)

	for digit := '0'; digit <= '9'; digit++ {
		f(fmt.Sprintf("GET / HTTP/1.%c", digit), KindNone)
	}
	for _, version := range []string{
		"HTTP/0.9", "HTTP/2.0", "HTTP/2", "HTTP/3", "HTTP/1", "HTTP/1.", "HTTP/1.10", "HTTP/11", "HTTP/01.1", "HTTP/1.1.1",
		"http/1.1", "HTTPS/1.1", "HTTP/1,1", "HTTP/1.x", "HTTP/ 1.1", "ICY/1.1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1.\xb2",
	} {
		f("GET / "+version, KindBadRequest)
	}
}

func TestRequest_EveryByteInAMethod(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		_, got := judgeRequest("G" + string([]byte{byte(i)}) + "T / HTTP/1.1\r\nHost: h\r\n\r\n")
		if want := tchar(byte(i)); (got == KindNone) != want {
			t.Errorf("byte %#02x: got %q, want accepted %v", i, got, want)
		}
	}
}

// What is no control byte passes a target, `#` and space excepted: it is for the application to judge.
func TestRequest_EveryByteInATarget(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		c := byte(i)
		target := "/a" + string([]byte{c}) + "b"
		r, got := judgeRequest("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
		want := c > 0x20 && c != 0x7f && c != '#'
		if (got == KindNone) != want {
			t.Errorf("byte %#02x: got %q, want accepted %v", c, got, want)
		}
		if want && string(r.target) != target {
			t.Errorf("byte %#02x: target became %q", c, r.target)
		}
	}
}

func TestRequest_Target(t *testing.T) {
	t.Parallel()
	accept := func(line, target, authority, path string, absolute bool) {
		t.Helper()
		r, bad := judgeRequest(line + " HTTP/1.1\r\nHost: field.example\r\n\r\n")
		if bad != KindNone {
			t.Errorf("%q: refused: %v", line, bad)
			return
		}
		if string(r.target) != target || string(r.authority) != authority || r.absolute != absolute ||
			string(r.path) != path || string(r.rawTarget) != line[strings.IndexByte(line, ' ')+1:] {
			t.Errorf("%q: got target %q, authority %q, path %q, absolute %v", line, r.target, r.authority, r.path, r.absolute)
		}
	}
	refuse := func(line string) {
		t.Helper()
		if _, got := judgeRequest(line + " HTTP/1.1\r\nHost: field.example\r\n\r\n"); got != KindBadRequest {
			t.Errorf("%q: got %q, want bad_request", line, got)
		}
	}
	origin := func(target, path string) {
		t.Helper()
		accept("GET "+target, target, "field.example", path, false)
	}
	origin("/", "/")
	origin("/a?", "/a")
	origin("/a?b?c", "/a")
	origin("/a/../b/./c//d", "/a/../b/./c//d")
	origin("/%2e%2E/%zz/%", "/%2e%2E/%zz/%")
	origin("/\xe9?\xff", "/\xe9")
	origin("/<>\"{}|\\^`", "/<>\"{}|\\^`")
	origin("//evil.example/x", "//evil.example/x")
	origin("//evil.example/x?u=http://y", "//evil.example/x")
	origin("/x://y", "/x://y")
	origin("/*", "/*")

	accept("OPTIONS *", "*", "field.example", "*", false)
	accept("OPTIONS /", "/", "field.example", "/", false)
	accept("GET http://h/a?b", "/a?b", "h", "/a", true)
	accept("GET HTTP://h/a", "/a", "h", "/a", true)
	accept("GET https://h:8443/a", "/a", "h:8443", "/a", true)
	accept("GET http://h", "", "h", "", true)
	accept("GET http://h?q", "?q", "h", "", true)
	accept("GET http://h//x", "//x", "h", "//x", true)
	accept("OPTIONS http://h", "*", "h", "*", true)
	accept("OPTIONS http://h/", "/", "h", "/", true)
	accept("OPTIONS http://h?q", "?q", "h", "", true)
	// Whether an authority is a host is judged by the lookup, for the Host field and for this one alike.
	accept("GET http://u:p@h/", "/", "u:p@h", "/", true)

	refuse("GET *")
	refuse("GET *a")
	refuse("OPTIONS **")
	refuse("GET a")
	refuse("GET a/b")
	refuse("GET ?q")
	refuse("GET h:80")
	refuse("GET ://h/")
	refuse("GET ftp://h/")
	refuse("GET httpx://h/")
	refuse("GET http:/h/")
	refuse("GET http:h")
	refuse("GET http://")
	refuse("GET http:///a")
	refuse("GET http://?q")
	refuse("GET /a#b")
	refuse("GET /#")
	refuse("GET http://h/#a")
	refuse("GET http://h#a")
	refuse("OPTIONS *#")
	refuse("GET \\")
}

func TestRequest_Framing(t *testing.T) {
	t.Parallel()
	const head10, head11 = "POST / HTTP/1.0\r\n", "POST / HTTP/1.1\r\nHost: h\r\n"
	accept := func(start, fields string, want framing, length int64) {
		t.Helper()
		r, bad := judgeRequest(start + fields + "\r\n")
		switch {
		case bad != KindNone && !(start == head10 && bad == KindNoHost):
			t.Errorf("%q: %v", fields, bad)
		case r.framing != want || want == framingLength && r.contentLength != length:
			t.Errorf("%q: got framing %d of %d, want %d of %d", fields, r.framing, r.contentLength, want, length)
		}
	}
	refuse := func(fields string) {
		t.Helper()
		for _, start := range []string{head11, "GET / HTTP/1.0\r\nHost: h\r\n"} {
			if r, bad := judgeRequest(start + fields + "\r\n"); bad != KindBadRequest {
				t.Errorf("%q: got %q, framing %d", start+fields, bad, r.framing)
			}
		}
	}
	accept(head11, "", framingNone, 0)
	accept(head11, "Content-Length: 0\r\n", framingNone, 0)
	accept(head11, "Content-Length: 00\r\n", framingNone, 0)
	accept(head11, "Content-Length: 5\r\n", framingLength, 5)
	accept(head11, "content-length:5\r\n", framingLength, 5)
	accept(head11, "CONTENT-LENGTH: \t5 \t\r\n", framingLength, 5)
	accept(head11, "Content-Length: 0005\r\n", framingLength, 5)
	accept(head11, "Content-Length: 9223372036854775807\r\n", framingLength, 1<<63-1)
	accept(head11, "Transfer-Encoding: chunked\r\n", framingChunked, 0)
	accept(head11, "transfer-encoding: CHUNKED \r\n", framingChunked, 0)
	accept(head10, "Content-Length: 5\r\n", framingLength, 5)
	// A name of another spelling decides nothing here, and is dropped on the way.
	accept(head11, "Content_Length: 5\r\n", framingNone, 0)
	accept(head11, "Transfer_Encoding: chunked\r\n", framingNone, 0)
	accept(head11, "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", framingLength, 5)

	for _, value := range []string{
		"", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5a", "a", "5.0", "5;", "1e3", "\"5\"", "٥", "９", "-0",
		"9223372036854775808", "18446744073709551621", "99999999999999999999", "00000000000000000005",
	} {
		refuse("Content-Length: " + value + "\r\n")
	}
	refuse("Content-Length: 5\r\nContent-Length: 5\r\n")
	refuse("Content-Length: 5\r\nContent-Length: 6\r\n")
	refuse("Content-Length: 0\r\nContent-Length: 0\r\n")
	refuse("Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 5\r\n")
	for _, value := range []string{
		"", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,", ", chunked", "chunked;q=1",
		"xchunked", "chunkedx", "chun ked", "\"chunked\"", "\vchunked", "chunked\v", "c\u0130hunked", "chunked, identity",
		"identity, chunked", "'chunked'",
	} {
		refuse("Transfer-Encoding: " + value + "\r\n")
	}
	refuse("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")
	refuse("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")
	refuse("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n")
	refuse("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")
	refuse("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")
	refuse("Content-Length: 5\r\nTransfer-Encoding: identity\r\n")
}

// RFC 9112 §6.1: a server before 1.1 would not have understood the coding.
func TestRequest_ChunkedInHTTP10(t *testing.T) {
	t.Parallel()
	if _, bad := judgeRequest("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"); bad != KindBadRequest {
		t.Errorf("got %q, want bad_request", bad)
	}
}

func TestRequest_Host(t *testing.T) {
	t.Parallel()
	f := func(head string, want Kind, authority string) {
		t.Helper()
		r, got := judgeRequest(head + "\r\n")
		if got != want || want == KindNone && string(r.authority) != authority {
			t.Errorf("%q: got %q, authority %q, want %q, %q", head, got, r.authority, want, authority)
		}
	}
	f("GET / HTTP/1.1\r\nHost: A.example:80\r\n", KindNone, "A.example:80")
	f("GET / HTTP/1.1\r\nhOsT:a\r\n", KindNone, "a")
	f("GET / HTTP/1.1\r\n", KindNoHost, "")
	f("GET / HTTP/1.0\r\n", KindNoHost, "")
	f("GET / HTTP/1.0\r\nHost: a\r\n", KindNone, "a")
	f("GET / HTTP/1.1\r\nHost:\r\n", KindNone, "") // The lookup refuses an empty host.
	f("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", KindBadRequest, "")
	f("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n", KindBadRequest, "")
	f("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n", KindBadRequest, "")
	f("GET http://t/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n", KindBadRequest, "")
	f("GET http://t/ HTTP/1.1\r\nHost: a\r\n", KindNone, "t")
	f("GET http://t/ HTTP/1.1\r\n", KindNoHost, "") // RFC 9112 §3.2: 1.1 asks for the field in any form.
	f("GET http://t/ HTTP/1.0\r\n", KindNone, "t")
}

func TestRequest_Connection(t *testing.T) {
	t.Parallel()
	f := func(version, fields string, keepAlive, options bool) {
		t.Helper()
		r := mustJudge(t, "GET / "+version+"\r\nHost: h\r\n"+fields+"\r\n")
		if r.keepAlive != keepAlive || r.options != options {
			t.Errorf("%s %q: got keepAlive %v, options %v", version, fields, r.keepAlive, r.options)
		}
	}
	f("HTTP/1.1", "", true, false)
	f("HTTP/1.1", "Connection: keep-alive\r\n", true, false)
	f("HTTP/1.1", "Connection: close\r\n", false, false)
	f("HTTP/1.1", "Connection: CLOSE\r\n", false, false)
	f("HTTP/1.1", "Connection: keep-alive, close\r\n", false, false)
	f("HTTP/1.1", "Connection: close, keep-alive\r\n", false, false)
	f("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n", false, false)
	f("HTTP/1.1", "Connection: x-a\r\n", true, true)
	f("HTTP/1.1", "Connection: x-a,close\r\n", false, true)
	f("HTTP/1.1", "Connection: x-a\r\nConnection: close\r\n", false, true)
	f("HTTP/1.1", "Connection: , ,\r\n", true, false)
	f("HTTP/1.1", "Connection: closed\r\n", true, true)
	f("HTTP/1.1", "Proxy-Connection: close\r\n", true, false)
	f("HTTP/1.2", "", true, false) // RFC 9110 §2.5: a later minor version is taken for 1.1.
	f("HTTP/1.0", "", false, false)
	f("HTTP/1.0", "Connection: keep-alive\r\n", true, false)
	f("HTTP/1.0", "Connection: Keep-Alive, x\r\n", true, true)
	f("HTTP/1.0", "Connection: keep-alive\r\nConnection: close\r\n", false, false)
	f("HTTP/1.0", "Connection: close\r\nConnection: keep-alive\r\n", false, false)
	f("HTTP/1.0", "Keep-Alive: timeout=5\r\n", false, false)
}

func TestRequest_Upgrade(t *testing.T) {
	t.Parallel()
	f := func(version, fields, want string) {
		t.Helper()
		r := mustJudge(t, "GET / "+version+"\r\nHost: h\r\n"+fields+"\r\n")
		if string(r.upgrade) != want || (r.upgrade == nil) != (want == "") {
			t.Errorf("%s %q: got %q, want %q", version, fields, r.upgrade, want)
		}
	}
	const v1 = "HTTP/1.1"
	f(v1, "Upgrade: websocket\r\nConnection: Upgrade\r\n", "websocket")
	f(v1, "Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n", "WebSocket")
	f(v1, "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", "websocket")
	f(v1, "Upgrade: websocket\r\n", "")
	f(v1, "Upgrade: websocket\r\nConnection: keep-alive\r\n", "")
	f(v1, "Upgrade: websocket\r\nConnection: upgrades\r\n", "")
	f(v1, "Connection: Upgrade\r\n", "")
	f("HTTP/1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "")
}

func TestRequest_Rest(t *testing.T) {
	t.Parallel()
	f := func(name, line, fields string, check func(r *request) bool) {
		t.Helper()
		if r := mustJudge(t, line+"\r\nHost: h\r\n"+fields+"\r\n"); !check(r) {
			t.Errorf("%s: %q %q: %+v", name, line, fields, r)
		}
	}
	const get10, get, options = "GET / HTTP/1.0", "GET / HTTP/1.1", "OPTIONS * HTTP/1.1"
	f("expects", get, "Expect: 100-continue\r\n", func(r *request) bool { return r.expects })
	f("expects", get, "expect: 100-CONTINUE\r\n", func(r *request) bool { return r.expects })
	f("1.0 does not expect", get10, "Expect: 100-continue\r\n", func(r *request) bool { return !r.expects })
	f("unknown expectation", get, "Expect: 200-ok\r\n", func(r *request) bool { return !r.expects })
	f("trailers", get, "TE: gzip, Trailers\r\n", func(r *request) bool { return r.teTrailers })
	f("trailers in the first of two", get, "TE: trailers\r\nTE: gzip\r\n", func(r *request) bool { return r.teTrailers })
	f("no trailers", get, "TE: trailers;q=0.5\r\n", func(r *request) bool { return !r.teTrailers })
	f("no limit of hops", options, "", func(r *request) bool { return r.maxForward == -1 })
	f("limit of hops", options, "Max-Forwards: 0\r\n", func(r *request) bool { return r.maxForward == 0 })
	f("limit of hops", options, "Max-Forwards: 10\r\n", func(r *request) bool { return r.maxForward == 10 })
	f("no number of hops", options, "Max-Forwards: ten\r\n", func(r *request) bool { return r.maxForward == -1 })
	f("huge number of hops", options, "Max-Forwards: 4294967296\r\n", func(r *request) bool { return r.maxForward == -1 })
	f("hops of a GET", get, "Max-Forwards: 0\r\n", func(r *request) bool { return r.maxForward == -1 })
	f("debug", get, "X-Debug:\r\n", func(r *request) bool { return r.debug })
	f("planb's debug", get, "X-Debug-Router: 1\r\n", func(r *request) bool { return r.debug })
	f("planb's debug, empty", get, "X-Debug-Router:\r\n", func(r *request) bool { return !r.debug })
	f("no debug", get, "X-Debugger: 1\r\n", func(r *request) bool { return !r.debug })
}

func TestRequest_Methods(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]struct{ idempotent, isHead bool }{
		"GET": {true, false}, "HEAD": {true, true}, "OPTIONS": {true, false}, "PUT": {true, false}, "DELETE": {true, false},
		"POST": {}, "PATCH": {}, "QUERY": {}, "get": {}, "head": {}, "HEADX": {}, "LOCK": {},
	} {
		r := mustJudge(t, method+" / HTTP/1.1\r\nHost: h\r\n\r\n")
		if r.idempotent != want.idempotent || r.isHead != want.isHead {
			t.Errorf("%s: got idempotent %v, isHead %v", method, r.idempotent, r.isHead)
		}
	}
}

// A connection judges one request after another: nothing of one may be seen in the next.
func TestRequest_Reset(t *testing.T) {
	t.Parallel()
	first := "OPTIONS http://a/ HTTP/1.0\r\nHost: b\r\nConnection: x, keep-alive, upgrade\r\nUpgrade: websocket\r\n" +
		"Expect: 100-continue\r\nTE: trailers\r\nMax-Forwards: 3\r\nX-Debug: 1\r\nContent-Length: 9\r\n\r\n"
	r := mustJudge(t, first)
	r.reset()
	second := "POST /b?c HTTP/1.1\r\nHost: d\r\n\r\n"
	if n, bad := r.scan([]byte(second), &strictRules); n == 0 || bad != KindNone {
		t.Fatalf("got %d, %v", n, bad)
	}
	if bad := r.judge(); bad != KindNone {
		t.Fatal(bad)
	}
	fresh := mustJudge(t, second)
	if got, want := fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", fresh); got != want {
		t.Errorf("after another request:\n%s\nalone:\n%s", got, want)
	}
}
