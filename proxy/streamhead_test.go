package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// takeAll makes a head of fields.
func takeAll(h *streamHead, limit int, fields ...string) {
	h.begin(nil, limit, false)
	for i := 0; i < len(fields); i += 2 {
		h.take(fields[i], fields[i+1])
	}
}

func TestStreamHead(t *testing.T) {
	t.Parallel()
	get := []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/p?q"}
	with := func(fields ...string) []string { return append(get[:len(get):len(get)], fields...) }
	tests := []struct {
		name   string
		fields []string
		body   bool
		want   string // "" = malformed
	}{
		{"plain", get, false, "GET /p?q HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"any order", []string{":path", "/", ":authority", "a", ":scheme", "http", ":method", "PUT"}, true, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"case and order", with("x-b", "2", "x-a-ab", "1", "x-b", "3"), false, "GET /p?q HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nX-A-Ab: 1\r\nX-B: 3\r\n\r\n"},
		{"length", with("content-length", "3"), true, "GET /p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"},
		{"cookies", with("cookie", "a=1", "x", "y", "cookie", "b=2"), false, "GET /p?q HTTP/1.1\r\nHost: a\r\nX: y\r\nCookie: a=1; b=2\r\n\r\n"},
		{"equal host", with("host", "a"), false, "GET /p?q HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"host alone", []string{":method", "GET", ":scheme", "https", ":path", "/", "host", "b"}, false, "GET / HTTP/1.1\r\nHost: b\r\n\r\n"},
		{"connect", []string{":method", "CONNECT", ":authority", "a:443"}, false, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
		{"te", with("te", "trailers"), false, "GET /p?q HTTP/1.1\r\nHost: a\r\nTe: trailers\r\n\r\n"},
		{"options", []string{":method", "OPTIONS", ":scheme", "https", ":authority", "a", ":path", "*"}, false, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},

		{"length without body", with("content-length", "3"), false, ""},
		{"no method", get[2:], false, ""},
		{"no path", get[:6], false, ""},
		{"no scheme", append(get[:2:2], get[4:]...), false, ""},
		{"other scheme", []string{":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/"}, false, ""},
		{"doubled", with(":path", "/"), false, ""},
		{"unknown", with(":x", "/"), false, ""},
		{"late", with("a", "b", ":authority", "/"), false, ""},
		{"upper case", with("Accept", "x"), false, ""},
		{"name with a line", with("a\r\nb", "x"), false, ""},
		{"name with a colon", with("a: b", "x"), false, ""},
		{"empty name", with("", "x"), false, ""},
		{"value with a line", with("a", "x\r\nhost: b"), false, ""},
		{"value with a bare line", with("a", "x\nhost: b"), false, ""},
		{"value with zero", with("a", "x\x00"), false, ""},
		{"value with blanks", with("a", " x"), false, ""},
		{"path with a line", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/ HTTP/1.1\r\nX: y"}, false, ""},
		{"path with a blank", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a b"}, false, ""},
		{"method with a blank", []string{":method", "GET /", ":scheme", "https", ":authority", "a", ":path", "/"}, false, ""},
		{"URI", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "http://b/"}, false, ""},
		{"userinfo", []string{":method", "GET", ":scheme", "https", ":authority", "x@a", ":path", "/"}, false, ""},
		{"other host", with("host", "b"), false, ""},
		{"two hosts", with("host", "a", "host", "a"), false, ""},
		{"connection", with("connection", "close"), false, ""},
		{"chunked", with("transfer-encoding", "chunked"), true, ""},
		{"upgrade", with("upgrade", "websocket"), false, ""},
		{"te gzip", with("te", "trailers, gzip"), false, ""},
		{"connect with path", []string{":method", "CONNECT", ":authority", "a", ":path", "/", ":scheme", "https"}, false, ""},
	}
	var h streamHead
	for _, tt := range tests {
		takeAll(&h, 4096, tt.fields...)
		got := ""
		if h.end(tt.body) {
			got = string(h.dst)
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A head beyond its limit is judged too large, however it exceeds it, and what is kept of it is bounded.
func TestStreamHead_TooLarge(t *testing.T) {
	t.Parallel()
	const limit = 1000
	long := strings.Repeat("x", 5000)
	base := []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"}
	for name, fields := range map[string][]string{
		"path":     {":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/" + long},
		"host":     {":method", "GET", ":scheme", "https", ":authority", long, ":path", "/"},
		"value":    append(base[:8:8], "x", long),
		"name":     append(base[:8:8], long, "x"),
		"cookie":   append(base[:8:8], "cookie", long),
		"many":     append(base[:8:8], strings.Split(strings.Repeat("a b ", 1000)+"a b", " ")...),
		"cookies":  append(base[:8:8], strings.Split(strings.Repeat("cookie b ", 1000)+"a b", " ")...),
		"just":     append(base[:8:8], "x", strings.Repeat("x", limit-30), "y", "yyyyyyyyyyyyy"),
		"mixed up": append(base[:8:8], "cookie", long[:990], "x", long[:990]),
	} {
		var h streamHead
		takeAll(&h, limit, fields...)
		if !h.end(false) {
			t.Errorf("%s: malformed", name)
		}
		var r request
		n, bad := r.scan(h.dst, &headRules{maxBytes: limit, maxFields: 1 << 20})
		if n != 0 || bad != KindHeadTooLarge && bad != KindTargetTooLong {
			t.Errorf("%s: %d bytes of %d, %v", name, n, len(h.dst), bad)
		}
		if len(h.dst) > 5*limit {
			t.Errorf("%s: %d bytes are kept", name, len(h.dst))
		}
	}
}

// FuzzStreamHead: whatever fields a block holds, what is made of them is refused, or exactly one head that net/http reads as
// the same request.
func FuzzStreamHead(f *testing.F) {
	for _, fields := range [][]string{
		{":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/", "cookie", "a", "cookie", "b", "te", "trailers"},
		{":method", "POST", ":scheme", "https", ":authority", "h", ":path", "/x?y", "content-length", "3", "x-y", "a, b"},
		{":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/ HTTP/1.1\r\nHost: x", "host", "h"},
	} {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		f.Add(block.Bytes(), true)
		f.Add(block.Bytes(), false)
	}
	f.Fuzz(func(t *testing.T, block []byte, body bool) {
		var h streamHead
		h.begin(nil, 4096, false)
		d := hpack.NewDecoder(maxFieldTable, func(f hpack.HeaderField) { h.take(f.Name, f.Value) })
		if _, err := d.Write(block); err != nil || d.Close() != nil || !h.end(body) {
			return
		}
		var r request
		n, bad := r.scan(h.dst, &headRules{maxBytes: 4096, maxFields: 100})
		if bad != 0 {
			return
		}
		if n != len(h.dst) {
			t.Fatalf("%q: the head ends after %d bytes", h.dst, n)
		}
		if r.judge() != 0 {
			return
		}
		rd := bufio.NewReader(bytes.NewReader(h.dst))
		q, err := http.ReadRequest(rd)
		if err != nil {
			if badTarget(err) {
				return // net/http insists on a target that it can parse.
			}
			t.Fatalf("%q: net/http refuses it: %v", h.dst, err)
		}
		if q.Method != h.method || q.RequestURI != h.path || rd.Buffered() > 0 {
			t.Fatalf("%q: net/http reads %s %s with %d bytes left, the fields say %s %s", h.dst, q.Method, q.RequestURI, rd.Buffered(), h.method, h.path)
		}
	})
}
