package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRequestHead: a head is judged the same however it comes in, and what is accepted means the same to net/http after we
// have rewritten it: two readers in a row never disagree on where a request goes or ends.
func FuzzRequestHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST http://a:80/b?c HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\n",
		"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nTE: trailers\r\nConnection: TE, x\r\nX: y\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 5\r\n\r\n",
		"\r\nGET //a://b HTTP/1.0\r\nHost: [::1]:80\r\nConnection: keep-alive\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent_Length: 5\r\n\r\n",
		"GET / HTTP/1.1\r\nHost : h\r\nContent-Length: +5\r\nTransfer-Encoding:\vchunked\r\n X: y\n\r\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	x := newExchange(f, toHost+"\r\n", false)
	f.Fuzz(func(t *testing.T, raw []byte, trusted bool) {
		whole, n, bad := scanWhole(string(raw), &strictRules)
		slow, m, worse := scanSlowly(string(raw), &strictRules)
		if n != m || bad != worse || n > 0 && whole.fieldLines() != slow.fieldLines() {
			t.Fatalf("%q: got %d, %v; byte by byte %d, %v", raw, n, bad, m, worse)
		}
		r, bad := judgeRequest(string(raw))
		if n == 0 || bad != KindNone {
			return
		}
		x.req, x.peer.trusted = *r, trusted
		out := x.appendRequestHead(nil, false)
		again, bad := judgeRequest(string(out))
		if bad != KindNone || again.framing != r.framing || again.contentLength != r.contentLength ||
			!bytes.Equal(again.authority, r.authority) || again.options != (r.teTrailers || r.upgrade != nil) {
			t.Fatalf("%q became %q, which reads as %v, %+v", raw, out, bad, again)
		}
		agreesWithNetHTTP(t, r, out)
	})
}

// agreesWithNetHTTP checks that net/http reads a forwarded head as we judged the received one.
func agreesWithNetHTTP(t *testing.T, r *request, out []byte) {
	t.Helper()
	target := string(out[len(r.method)+1:])
	target = target[:strings.IndexByte(target, ' ')]
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
	if _, bad := url.ParseRequestURI(target); err != nil && bad != nil {
		return // net/http insists on a target that it can parse; applications need not.
	}
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", out, err)
	}
	if req.Method != string(r.method) || req.RequestURI != target || req.Host != string(r.authority) {
		t.Fatalf("%q: net/http reads %q, %q, %q", out, req.Method, req.RequestURI, req.Host)
	}
	chunked := slices.Equal(req.TransferEncoding, []string{"chunked"})
	switch r.framing {
	case framingNone:
		if req.ContentLength != 0 || chunked {
			t.Fatalf("%q: net/http sees a body of %d", out, req.ContentLength)
		}
	case framingLength:
		if req.ContentLength != r.contentLength || chunked {
			t.Fatalf("%q: net/http sees a body of %d, want %d", out, req.ContentLength, r.contentLength)
		}
	case framingChunked:
		if !chunked {
			t.Fatalf("%q: net/http sees no chunks", out)
		}
	}
}

// FuzzResponseHead: where net/http reads an answer too, it finds the same status and framing; and what is passed on needs
// no mending any more.
func FuzzResponseHead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nA: b\n c\n\n",
		"HTTP/1.0 200 \r\nConnection: keep-alive, x\r\nX: y\r\nB : c\r\n\r\n",
		"HTTP/1.1 204\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nTrailer: x\r\n\r\n",
		"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
		"\r\nHTTP/1.1 500 \x80\tx\r\nSet-Cookie: a\x01b\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	x := newExchange(f, toHost+"\r\n", false)
	f.Fuzz(func(t *testing.T, raw []byte, toHead bool) {
		whole, n, bad := scanWhole(string(raw), &lenientRules)
		slow, m, worse := scanSlowly(string(raw), &lenientRules)
		if n != m || bad != worse || n > 0 && whole.fieldLines() != slow.fieldLines() {
			t.Fatalf("%q: got %d, %v; byte by byte %d, %v", raw, n, bad, m, worse)
		}
		r, ok := judgeResponse(string(raw), toHead)
		if !ok {
			return
		}
		out := append(x.appendResponseFields([]byte("HTTP/1.1 200 OK\r\n"), r), "\r\n"...)
		again, n, bad := scanWhole(string(out), &lenientRules)
		if bad != KindNone || n != len(out) || !(&response{head: again}).regular() {
			t.Fatalf("%q became %q: %v", raw, out, bad)
		}
		for i := range again.fields {
			name := again.fields[i].name.of(again.b)
			if lower := strings.ToLower(string(name)); hopByHop[lower] && lower != "trailer" || r.options && r.listsField(name) {
				t.Fatalf("%q: passed on %q", raw, again.fields[i].line.of(again.b))
			}
		}
		method := http.MethodGet
		if toHead {
			method = http.MethodHead
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: method})
		if err == nil && !hasSpacedColon(raw) {
			sameFraming(t, raw, r, resp, toHead)
		}
	})
}

// hasSpacedColon reports whether a field name may have white space behind it. RFC 9112 §5.1 has a proxy remove it, so that the
// field counts; to net/http it is another field.
func hasSpacedColon(raw []byte) bool {
	return bytes.Contains(raw, []byte(" :")) || bytes.Contains(raw, []byte("\t:"))
}

// sameFraming checks that net/http sees the end of an answer where we do.
func sameFraming(t *testing.T, raw []byte, r *response, resp *http.Response, toHead bool) {
	t.Helper()
	if resp.StatusCode != r.status {
		t.Fatalf("%q: status %d, net/http reads %d", raw, r.status, resp.StatusCode)
	}
	if toHead || r.status < 200 || r.status == 204 || r.status == 304 {
		if r.framing != framingNone {
			t.Fatalf("%q: framing %d of an answer without a body", raw, r.framing)
		}
		return
	}
	want := map[framing]int64{framingNone: 0, framingLength: r.contentLength, framingChunked: -1, framingClose: -1}[r.framing]
	if resp.ContentLength != want || (len(resp.TransferEncoding) > 0) != (r.framing == framingChunked) {
		t.Fatalf("%q: framing %d of %d, net/http reads %d, %q", raw, r.framing, r.contentLength, resp.ContentLength, resp.TransferEncoding)
	}
}

// FuzzChunkedBody: the body is the same however it comes in, and what we accept net/http decodes to the same bytes.
func FuzzChunkedBody(f *testing.F) {
	for _, seed := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nrest", "a \t\r\n0123456789\r\n0;\r\n\r\n", "0\r\n\r\n",
		"5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "00000000000000005\r\n", "0\r\nX: y\n\r\n", "1\r\n\r\r\n0\r\n\n\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole := readPieces(string(raw), 1<<20, framingChunked, 0)
		for _, size := range []int{1, 2, 5} {
			if got := readPieces(string(raw), size, framingChunked, 0); got != whole {
				t.Fatalf("%q: got %q, in pieces of %d %q", raw, fmt.Sprint(whole), size, fmt.Sprint(got))
			}
		}
		data, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		switch {
		case whole.err == nil && strings.HasPrefix(whole.data, string(data)) && err != nil && hasSpacedExtension(raw):
			// RFC 9112 §7.1.1 allows white space before an extension, net/http does not.
		case whole.err == nil && (err != nil || string(data) != whole.data):
			t.Fatalf("%q: got %q, net/http %q, %v", raw, whole.data, data, err)
		case whole.err != nil && !strings.HasPrefix(string(data), whole.data) && !strings.HasPrefix(whole.data, string(data)):
			t.Fatalf("%q: got %q before the error, net/http %q", raw, whole.data, data)
		}
	})
}

// hasSpacedExtension reports whether a chunk extension may have white space before its semicolon.
func hasSpacedExtension(raw []byte) bool {
	return bytes.Contains(raw, []byte(" ;")) || bytes.Contains(raw, []byte("\t;"))
}

// FuzzStripHopByHop: no field that any Connection field names survives, nor any of the legacy set; every other field does,
// byte for byte and in order.
func FuzzStripHopByHop(f *testing.F) {
	f.Add("close", "X-A: 1\r\nx-b:2\r\n")
	f.Add("x-a, keep-alive", "X-A: 1\r\nconnection: X-B\r\nX-B: 2\r\nx-a : 3\r\nCookie: c\r\n")
	f.Add("host, content-length, x-forwarded-for", "Content-Length: 0\r\nX-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\n")
	f.Add("upgrade, te", "Upgrade: websocket\r\nTE: trailers\r\nTrailer: x\r\nKeep-Alive: 1\r\nProxy-Connection: y\r\n")
	f.Add(",, ,\t,", "X: \xff\r\n")
	x := newExchange(f, toHost+"\r\n", false)
	f.Fuzz(func(t *testing.T, connection, fields string) {
		raw := toHost + "Connection: " + connection + "\r\n" + fields + "\r\n"
		r, bad := judgeRequest(raw)
		if bad != KindNone || len(r.b) != len(raw) {
			return
		}
		x.req = *r
		out := string(x.appendRequestHead(nil, false))
		for _, line := range headLines(raw) {
			name, value, _ := strings.Cut(line, ":")
			if strings.EqualFold(name, "connection") {
				connection += "," + value
			}
		}
		named := map[string]bool{}
		for _, option := range strings.Split(connection, ",") {
			named[strings.ToLower(strings.Trim(option, " \t"))] = true
		}
		var want, got []string
		for _, line := range headLines(raw) {
			if name, plain := plainName(line); plain && !named[name] {
				want = append(want, line)
			}
		}
		for _, line := range headLines(out) {
			name, plain := plainName(line)
			if plain {
				got = append(got, line)
			}
			if hop := hopByHop[name]; hop && !strings.EqualFold(line, "connection: upgrade") && line != "Connection: TE" &&
				line != "TE: trailers" && name != "upgrade" {
				t.Fatalf("%q: passed on %q", raw, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q:\n got %q\nwant %q", raw, got, want)
		}
	})
}

// hopByHop is the legacy set of fields for one connection only, written down a second time.
var hopByHop = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "proxy-authenticate": true, "proxy-authorization": true,
	"te": true, "trailer": true, "upgrade": true, "http2-settings": true,
}

// headLines returns the field lines of a head.
func headLines(raw string) []string {
	lines := strings.Split(raw, "\r\n")
	return lines[1 : len(lines)-2]
}

// plainName returns a line's field name in lower case, and whether the proxy has nothing to do with that field.
func plainName(line string) (name string, plain bool) {
	name, _, _ = strings.Cut(line, ":")
	name = strings.ToLower(name)
	kind, known := knownFields[strings.ReplaceAll(name, "_", "-")]
	return name, !known || name != strings.ReplaceAll(name, "_", "-") && kind > fieldTransferEncoding && !kind.isForwarding()
}

// FuzzForwardedFor: an application gets the peer's address as the last one whatever the client sent, and from a peer that is
// not trusted nothing else.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "1.1.1.1", "1.1.1.1, 2.2.2.2:80", "[::1]:80,\t::ffff:1.2.3.4", "a,,b,", "fe80::1%z", strings.Repeat("1,", 30)} {
		f.Add(seed, "2.2.2.2", true)
		f.Add("3.3.3.3", seed, false)
	}
	x := newExchange(f, toHost+"\r\n", false)
	f.Fuzz(func(t *testing.T, first, second string, trusted bool) {
		raw := toHost + "X-Forwarded-For: " + first + "\r\nx-forwarded-FOR:" + second + "\r\n\r\n"
		r, bad := judgeRequest(raw)
		if bad != KindNone || len(r.b) != len(raw) || len(r.fields) != 3 {
			return
		}
		x.req, x.peer.trusted = *r, trusted
		var got []string
		for _, line := range headLines(string(x.appendRequestHead(nil, false))) {
			if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "x-forwarded-for") {
				got = append(got, strings.Trim(value, " \t"))
			}
		}
		peer := string(x.peer.text)
		first, second = strings.Trim(first, " \t"), strings.Trim(second, " \t")
		want := []string{peer}
		if trusted {
			want = []string{first, second + ", " + peer}
			if second == "" {
				want[1] = peer
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", raw, got, want)
		}
		entries := 0
		for _, list := range []string{first, second} {
			if list != "" {
				entries += len(strings.Split(list, ","))
			}
		}
		if x.req.loops() != (entries > maxForwardedFor) {
			t.Fatalf("%q: loops %v with %d entries", raw, x.req.loops(), entries)
		}
		checkClientAddr(t, x, second, trusted)
	})
}

// checkClientAddr checks whom a lookup is charged to, given the last forwarding field.
func checkClientAddr(t *testing.T, x *exchange, list string, trusted bool) {
	t.Helper()
	got := x.clientAddr()
	last := strings.Trim(list[strings.LastIndexByte(list, ',')+1:], " \t")
	if a, err := netip.ParseAddr(last); err == nil && trusted && len(last) <= 64 {
		if got != a.Unmap().WithZone("") {
			t.Fatalf("%q: got %v", list, got)
		}
	} else if !trusted && got != x.peer.addr {
		t.Fatalf("a peer that is not trusted speaks for %v", got)
	}
	if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
		t.Fatalf("%q: got %v", list, got)
	}
}

// FuzzUpgradeRequest: the only upgrade that reaches a backend is one to WebSocket that the client asked for properly.
func FuzzUpgradeRequest(f *testing.F) {
	f.Add("Upgrade", "websocket", "Sec-WebSocket-Key: k\r\n")
	f.Add("keep-alive, upgrade", "h2c", "HTTP2-Settings: x\r\nConnection: HTTP2-Settings\r\n")
	f.Add("upgrade", "websocket, h2c", "Upgrade: websocket\r\n")
	f.Add("x", "WEBSOCKET", "connection: Upgrade\r\nContent-Length: 5\r\n")
	f.Add("upgrade", "websocket", "Transfer-Encoding: chunked\r\nTE: trailers\r\n")
	x := newExchange(f, toHost+"\r\n", true)
	f.Fuzz(func(t *testing.T, connection, upgrade, fields string) {
		raw := toHost + "Connection: " + connection + "\r\nUpgrade: " + upgrade + "\r\n" + fields + "\r\n"
		r, bad := judgeRequest(raw)
		if bad != KindNone || len(r.b) != len(raw) {
			return
		}
		x.req = *r
		if e := x.srv.admit(x); e.Kind != KindNone {
			return
		}
		out := string(x.appendRequestHead(nil, false))
		var upgrades, connections []string
		for _, line := range headLines(out) {
			name, value, _ := strings.Cut(line, ": ")
			switch strings.ToLower(name) {
			case "upgrade":
				upgrades = append(upgrades, strings.ToLower(value))
			case "connection":
				connections = append(connections, value)
			case "http2-settings":
				t.Fatalf("%q became %q", raw, out)
			}
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		asked := err == nil && headerLists(req.Header, "Connection", "upgrade") && r.framing == framingNone
		switch {
		case len(upgrades) == 0:
			if len(connections) > 1 || len(connections) == 1 && connections[0] != "TE" {
				t.Fatalf("%q became %q", raw, out)
			}
		case !slices.Equal(upgrades, []string{"websocket"}) || !slices.Equal(connections, []string{"Upgrade"}) || !asked:
			t.Fatalf("%q became %q", raw, out)
		}
	})
}

// headerLists reports whether any field of a name lists an option.
func headerLists(h http.Header, name, option string) bool {
	for _, list := range h[name] {
		for _, e := range strings.Split(list, ",") {
			if strings.EqualFold(strings.Trim(e, " \t"), option) {
				return true
			}
		}
	}
	return false
}
