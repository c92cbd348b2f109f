package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// newExchange returns an exchange with the judged head of a request, from a peer that is trusted or not, and nothing else.
func newExchange(t testing.TB, raw string, trusted bool) *exchange {
	t.Helper()
	cfg := DefaultConfig()
	peer := newPeerInfo(netip.MustParseAddr("192.0.2.7"), trusted, "http", 8080)
	srv := &Server{}
	srv.metrics = newProxyMetrics(metrics.NewSet(), srv)
	return &exchange{srv: srv, cfg: &cfg, peer: &peer, req: *mustJudge(t, raw)}
}

// forwarding is what an exchange of newExchange adds where the client's fields are not believed.
const forwarding = "X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n" +
	"X-Forwarded-Protocol: http\r\nX-Forwarded-Port: 8080\r\n"

// checkForwarded checks the head that goes to the backend.
func checkForwarded(t *testing.T, x *exchange, want string) {
	t.Helper()
	if got := string(x.appendRequestHead(nil, false)); got != want {
		t.Errorf("from %q\n got %q\nwant %q", x.req.b, got, want)
	}
}

// What is for the application goes there byte for byte, in its order.
func TestRequestHead_EndToEnd(t *testing.T) {
	t.Parallel()
	const fields = "Host: H.example:80\r\nX-b:  2 \r\nx-A:1\r\nX-b: 3\r\nCookie: a=\"b;c\"\r\ncookie: d\r\nUser-Agent:\r\n" +
		"User-Agent: two\r\nContent-Type: x\r\nContent-Type: y\r\nX_Y: z\r\nAuthorization: Basic x\r\nX-8: \xff\t\xfe\r\n" +
		"Accept-Encoding: gzip\r\nReferer: r\r\nReferer: s\r\nX-Debug: 1\r\nDate: d\r\nVia: 1.0 fred\r\nIf-None-Match: *\r\n" +
		"Retry-After: 1\r\nMax-Forwards: 3\r\nTrailers: x\r\nETag: \"e\"\r\nSec-WebSocket-Key: k\r\n"
	x := newExchange(t, "gEt /a%2e/../b//?q&&=%20+ HTTP/1.1\r\n"+fields+"\r\n", false)
	checkForwarded(t, x, "gEt /a%2e/../b//?q&&=%20+ HTTP/1.1\r\n"+fields+forwarding+"\r\n")
}

func TestRequestHead_HopByHop(t *testing.T) {
	t.Parallel()
	const start = "GET / HTTP/1.1\r\nHost: h\r\n"
	f := func(name, fields, passed, added string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkForwarded(t, newExchange(t, start+fields+"\r\n", false), start+passed+forwarding+added+"\r\n")
		})
	}
	f("the legacy set", "Connection: close\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n"+
		"Proxy-Authorization: Basic x\r\nProxy-Authenticate: y\r\nUpgrade: websocket\r\nHTTP2-Settings: z\r\nTrailer: t\r\n", "", "")
	f("named in Connection", "X-A: 1\r\nConnection: x-a\r\nX-B: 2\r\n", "X-B: 2\r\n", "")
	f("named before it comes", "Connection: X-A\r\nX-a: 1\r\nX-A: 2\r\n", "", "")
	f("named in the second of two lines", "Connection: keep-alive\r\nX-A: 1\r\nX-B: 2\r\nconnection: x-B , X-a\r\n", "", "")
	f("named among empty elements", "Connection: ,, x-a ,\r\nX-A: 1\r\nX-AB: 2\r\n", "X-AB: 2\r\n", "")
	f("named, but another name", "Connection: x-a\r\nX_A: 1\r\nX-A-: 2\r\n", "X_A: 1\r\nX-A-: 2\r\n", "")
	f("fields that are read here, named", "Connection: referer, user-agent, x-debug, date, retry-after\r\nReferer: a\r\n"+
		"User-Agent: b\r\nX-Debug: c\r\nDate: d\r\nRetry-After: e\r\n", "", "")
	f("cookies named", "Connection: cookie, authorization\r\nCookie: a\r\nAuthorization: b\r\n", "", "")
	f("TE asks for trailers", "TE: gzip, trailers\r\nConnection: TE\r\n", "", "TE: trailers\r\nConnection: TE\r\n")
	f("planb's debug field", "X-Debug-Router: 1\r\n", "", "")
	f("length is no option", "Connection: content-length, host\r\nContent-Length: 0\r\n", "Content-Length: 0\r\n", "")
}

// A client that lists a field of ours must neither remove it nor get its own value believed.
func TestRequestHead_ConnectionNamesForwarding(t *testing.T) {
	t.Parallel()
	x := newExchange(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, close\r\n"+
		"X-Real-IP: 1.1.1.1\r\n\r\n", false)
	checkForwarded(t, x, "GET / HTTP/1.1\r\nHost: h\r\n"+forwarding+"\r\n")
	x = newExchange(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For, X-Real-IP\r\nX-Real-IP: 1.1.1.1\r\n"+
		"X-Forwarded-For: 1.1.1.1\r\n\r\n", true)
	checkForwarded(t, x, "GET / HTTP/1.1\r\nHost: h\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-For: 1.1.1.1, 192.0.2.7\r\n"+
		"X-Forwarded-Proto: http\r\nX-Forwarded-Protocol: http\r\nX-Forwarded-Port: 8080\r\n\r\n")
}

func TestRequestHead_LookAlikes(t *testing.T) {
	t.Parallel()
	var fields strings.Builder
	n := uint64(0)
	for name, kind := range knownFields {
		if strings.Contains(name, "-") && (kind <= fieldTransferEncoding || kind.isForwarding()) {
			fields.WriteString(strings.ReplaceAll(name, "-", "_") + ": 1\r\n" + strings.Replace(name, "-", "_", 1) + ": 2\r\n")
			n += 2
		}
	}
	for _, trusted := range []bool{true, false} {
		x := newExchange(t, "GET / HTTP/1.1\r\nHost: h\r\n"+fields.String()+"X_Plain: 3\r\n\r\n", trusted)
		checkForwarded(t, x, "GET / HTTP/1.1\r\nHost: h\r\nX_Plain: 3\r\n"+forwarding+"\r\n")
		if got := x.srv.metrics.droppedLookalike.Get(); got != n {
			t.Errorf("trusted %v: %d dropped look-alikes counted, want %d", trusted, got, n)
		}
	}
}

func TestRequestHead_Framing(t *testing.T) {
	t.Parallel()
	f := func(fields, want string) {
		t.Helper()
		x := newExchange(t, "POST / HTTP/1.1\r\nHost: h\r\n"+fields+"\r\n", false)
		checkForwarded(t, x, "POST / HTTP/1.1\r\nHost: h\r\n"+want+"\r\n")
	}
	f("Content-Length: 007\r\n", "Content-Length: 007\r\n"+forwarding)
	f("Content-Length: 0\r\n", "Content-Length: 0\r\n"+forwarding)
	f("transfer-encoding: CHUNKED\r\nTrailer: X-Sum\r\n", "Trailer: X-Sum\r\n"+forwarding+"Transfer-Encoding: chunked\r\n")
	f("", forwarding)
}

func TestRequestHead_AbsoluteForm(t *testing.T) {
	t.Parallel()
	f := func(line, host, want string) {
		t.Helper()
		x := newExchange(t, line+" HTTP/1.1\r\nX: y\r\nHost: "+host+"\r\n\r\n", false)
		checkForwarded(t, x, want+"X: y\r\n"+forwarding+"\r\n")
	}
	f("GET http://Target.example:81/a?b", "other", "GET /a?b HTTP/1.1\r\nHost: Target.example:81\r\n")
	f("GET https://t", "t", "GET / HTTP/1.1\r\nHost: t\r\n")
	f("GET http://t?q", "t", "GET /?q HTTP/1.1\r\nHost: t\r\n")
	f("GET http://t?", "t", "GET /? HTTP/1.1\r\nHost: t\r\n")
	f("OPTIONS http://t", "t", "OPTIONS * HTTP/1.1\r\nHost: t\r\n")
}

func TestRequestHead_Own(t *testing.T) {
	t.Parallel()
	const start = "GET / HTTP/1.1\r\nHost: h\r\n"
	f := func(name, raw string, change func(x *exchange), announced bool, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t, raw+"\r\n", false)
			change(x)
			if got := string(x.appendRequestHead([]byte("kept "), announced)); got != "kept "+want+"\r\n" {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
	nothing := func(*exchange) {}
	f("1.0 becomes 1.1", "GET / HTTP/1.0\r\nHost: h\r\n", nothing, false, start+forwarding)
	f("1.9 becomes 1.1", "GET / HTTP/1.9\r\nHost: h\r\n", nothing, false, start+forwarding)
	f("upgrade", start+"Upgrade: WebSocket\r\nConnection: upgrade, x\r\nX: y\r\nSec-WebSocket-Key: k\r\n", nothing, false,
		start+"Sec-WebSocket-Key: k\r\n"+forwarding+"Upgrade: WebSocket\r\nConnection: Upgrade\r\n")
	f("upgrade not passed", start+"Upgrade: h2c\r\nConnection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n",
		func(x *exchange) { x.req.upgrade = nil }, false, start+forwarding)
	f("expectation", start+"Expect: 100-continue\r\n", nothing, true, start+forwarding+"Expect: 100-continue\r\n")
	f("expectation met here", start+"Expect: 100-continue\r\n", nothing, false, start+forwarding)
	f("via", start+"Via: 1.0 a\r\n", func(x *exchange) { x.cfg.Via = "edge" }, false,
		start+"Via: 1.0 a\r\n"+forwarding+"Via: 1.1 edge\r\n")
	f("request id", start, func(x *exchange) { x.cfg.RequestIDHeader, x.id, x.idOurs = "X-Id", []byte("1-2"), true }, false,
		start+forwarding+"X-Id: 1-2\r\n")
	f("one hop less", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 10\r\n", nothing, false,
		"OPTIONS / HTTP/1.1\r\nHost: h\r\n"+forwarding+"Max-Forwards: 9\r\n")
	f("the last hop but one", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\n", nothing, false,
		"OPTIONS / HTTP/1.1\r\nHost: h\r\n"+forwarding+"Max-Forwards: 0\r\n")
	f("hops that are no number", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n", nothing, false,
		"OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n"+forwarding)
}

func TestResponseFields(t *testing.T) {
	t.Parallel()
	f := func(name, head, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", false)
			r, ok := judgeResponse(head+"\r\n", false)
			if !ok {
				t.Fatal("refused")
			}
			if got := string(x.appendResponseFields(nil, r)); got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
			x.cfg.Via = "edge"
			if got := string(x.appendResponseFields([]byte("kept "), r)); got != "kept "+want+"Via: 1.1 edge\r\n" {
				t.Errorf("with Via: got %q\nwant %q", got, want)
			}
		})
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	const plain = "Date: d\r\nserver: a\r\nServer: b\r\nContent-Type: c\r\nContent-Type: d\r\nContent-Encoding: e\r\n" +
		"content-encoding: f\r\nSet-Cookie: g\r\nSet-Cookie: h\r\nX:  y \r\nETag:\r\nX_Forwarded_For: i\r\nContent_Length: 5\r\n" +
		"X-Forwarded-For: j\r\nWWW-Authenticate: k\r\nRetry-After: 5\r\nHost: l\r\nVia: m\r\n"
	f("end-to-end fields", ok+plain, plain)
	f("nothing", ok, "")
	f("hop-by-hop fields", ok+"A: 1\r\nConnection: close\r\nB: 2\r\nC: 3\r\nKeep-Alive: x\r\nProxy-Connection: x\r\n"+
		"Proxy-Authenticate: x\r\nTE: x\r\nUpgrade: x\r\nHTTP2-Settings: x\r\nD: 4\r\n", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")
	f("only hop-by-hop fields", ok+"Connection: close\r\nKeep-Alive: x\r\nContent-Length: 5\r\n", "")
	f("framing is left to the caller", ok+"A: 1\r\nContent-Length: 5\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n")
	f("chunked, with announced trailers", ok+"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\nB: 2\r\n", "Trailer: X-Sum\r\nB: 2\r\n")
	f("announced trailers of a body that can't have them", ok+"Trailer: X-Sum\r\nContent-Length: 5\r\n", "")
	f("named in Connection", ok+"X-A: 1\r\nConnection: x-a\r\nX-B: 2\r\nx-a: 3\r\nX-C: 4\r\nConnection: X-c\r\n", "X-B: 2\r\n")
	f("mended lines", "HTTP/1.1 200 OK\nA: 1\nB : 2\nC: 3\n 4\nConnection: close\n", "A: 1\r\nB: 2\r\nC: 3  4\r\n")
	f("one mended line among others", ok+"a:1\r\nB : 2\r\nc:3\r\n", "a:1\r\nB: 2\r\nc:3\r\n")
}

// The fast path that copies runs of lines must agree with the copy line by line.
func TestResponseFields_RunsAgree(t *testing.T) {
	t.Parallel()
	names := []string{"A", "Connection", "Content-Length", "Set-Cookie", "Keep-Alive", "Upgrade", "Date"}
	x := newExchange(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", false)
	total := 1
	for range 5 {
		total *= len(names)
	}
	for n := range total {
		var fields, want strings.Builder
		for i := n; i > 0; i /= len(names) {
			name := names[i%len(names)]
			line := name + ": 1\r\n"
			if name == "Connection" {
				line = name + ": close\r\n"
			}
			fields.WriteString(line)
			if name == "A" || name == "Set-Cookie" || name == "Date" {
				want.WriteString(line)
			}
		}
		r, ok := judgeResponse("HTTP/1.1 200 OK\r\n"+fields.String()+"\r\n", false)
		if !ok {
			t.Fatalf("%q: refused", fields.String())
		}
		if got := string(x.appendResponseFields(nil, r)); got != want.String() {
			t.Fatalf("%q: got %q", fields.String(), got)
		}
	}
}
