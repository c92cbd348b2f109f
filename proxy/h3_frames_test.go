package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"sluice/internal/backendtest"
)

// http3Reader reads integers from a stream.
type http3Reader struct{ io.Reader }

func (r http3Reader) varint() (uint64, error) { return quicvarint.Read(quicvarint.NewReader(r.Reader)) }

// Requests are answered, reset, or end the connection, as RFC 9114 says.
func TestH3_Messages(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	get := requestH3("GET", "/", "a.example")
	post := func(fields ...string) []byte { return requestH3("POST", "/", "a.example", fields...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	data := frameH3(0x0, []byte("hello"))
	large := strings.Repeat("x", 40000)
	for _, tt := range []struct {
		name    string
		bytes   []byte
		status  string // of the answer, or
		reset   uint64 // of the stream, or
		ends    uint64 // of the connection
		cause   string
		noBody  bool
		trailer bool
	}{
		{name: "sound", bytes: get, status: "200"},
		{name: "frames of unknown types", bytes: join(frameH3(0x21, []byte("x")), get, frameH3(0x40, nil)), status: "200"},
		{name: "body", bytes: join(post(), data, data), status: "200"},
		{name: "body and length", bytes: join(post("content-length", "10"), data, data), status: "200"},
		{name: "empty frames", bytes: join(post(), frameH3(0x0, nil), data, frameH3(0x0, nil)), status: "200"},
		{name: "trailers", bytes: join(post(), data, headersH3("x-t", "t")), status: "200", trailer: true},
		{name: "Host alone", bytes: headersH3(":method", "GET", ":scheme", "https", ":path", "/", "host", "a.example"), status: "200"},
		{name: "CONNECT", bytes: headersH3(":method", "CONNECT", ":authority", "a.example:443"), status: "405", cause: "method_refused"},
		{name: "OPTIONS *", bytes: requestH3("OPTIONS", "*", "a.example"), status: "200"},
		{name: "short body", bytes: join(post("content-length", "11"), data, data), status: "400", cause: "bad_request"},
		{name: "long body", bytes: join(post("content-length", "4"), data), status: "400", cause: "bad_request"},
		{name: "long body, later frame", bytes: join(post("content-length", "5"), data, data), status: "400", cause: "bad_request"},
		{name: "long body, frames between", bytes: join(post("content-length", "5"), data, frameH3(0x21, nil), frameH3(0x0, nil), data), status: "400", cause: "bad_request"},
		{name: "body of a request without one", bytes: join(post("content-length", "0"), data), status: "400", cause: "bad_request"},
		{name: "body of a GET without one", bytes: join(requestH3("GET", "/", "a.example", "content-length", "0"), data), status: "400", cause: "bad_request"},
		{name: "nothing behind a length", bytes: join(post("content-length", "5"), data, frameH3(0x21, []byte("x")), frameH3(0x0, nil)), status: "200"},
		{name: "trailers behind a length", bytes: join(post("content-length", "5"), data, headersH3("x-t", "t")), status: "200"},
		{name: "lengths", bytes: join(post("content-length", "5", "content-length", "5"), data), status: "400", cause: "bad_request"},
		{name: "no length", bytes: join(post("content-length", "-5"), data), status: "400", cause: "bad_request"},
		{name: "section too large", bytes: requestH3("GET", "/", "a.example", "x-large", large), status: "431", cause: "head_too_large"},
		{name: "section too large for HEAD", bytes: requestH3("HEAD", "/", "a.example", "x-large", large), status: "431", cause: "head_too_large", noBody: true},
		{name: "target too long", bytes: requestH3("GET", "/"+strings.Repeat("x", 20000), "a.example"), status: "414", cause: "target_too_long"},
		{name: "fragment", bytes: requestH3("GET", "/#a", "a.example"), status: "400", cause: "bad_request"},

		{name: "nothing", bytes: nil, reset: 0x10d},
		{name: "upper case", bytes: requestH3("GET", "/", "a.example", "X-Upper", "1"), reset: 0x10e},
		{name: "field name", bytes: requestH3("GET", "/", "a.example", "x y", "1"), reset: 0x10e},
		{name: "empty field name", bytes: requestH3("GET", "/", "a.example", "", "1"), reset: 0x10e},
		{name: "line break", bytes: requestH3("GET", "/", "a.example", "x", "1\r\ny: 2"), reset: 0x10e},
		{name: "blank before", bytes: requestH3("GET", "/", "a.example", "x", " 1"), reset: 0x10e},
		{name: "blank behind", bytes: requestH3("GET", "/", "a.example", "x", "1\t"), reset: 0x10e},
		{name: "zero byte", bytes: requestH3("GET", "/", "a.example", "x", "1\x00"), reset: 0x10e},
		{name: "line break in the path", bytes: requestH3("GET", "/ HTTP/1.1\r\nx: y", "a.example"), reset: 0x10e},
		{name: "blank in the path", bytes: requestH3("GET", "/a b", "a.example"), reset: 0x10e},
		{name: "blank in the host", bytes: requestH3("GET", "/", "a.example b"), reset: 0x10e},
		{name: "blank in the method", bytes: requestH3("GET /x", "/", "a.example"), reset: 0x10e},
		{name: "absolute path", bytes: requestH3("GET", "https://a.example/", "a.example"), reset: 0x10e},
		{name: "no path", bytes: requestH3("GET", "", "a.example"), reset: 0x10e},
		{name: "* for GET", bytes: requestH3("GET", "*", "a.example"), reset: 0x10e},
		{name: "no host", bytes: headersH3(":method", "GET", ":scheme", "https", ":path", "/"), reset: 0x10e},
		{name: "userinfo", bytes: requestH3("GET", "/", "u@a.example"), reset: 0x10e},
		{name: "no scheme", bytes: headersH3(":method", "GET", ":path", "/", ":authority", "a.example"), reset: 0x10e},
		{name: "other scheme", bytes: headersH3(":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "a.example"), reset: 0x10e},
		{name: "doubled method", bytes: requestH3("GET", "/", "a.example", ":method", "GET"), reset: 0x10e},
		{name: "unknown pseudo-header field", bytes: headersH3(":method", "GET", ":x", "y"), reset: 0x10e},
		{name: "late pseudo-header field", bytes: headersH3(":method", "GET", ":scheme", "https", "x", "y", ":path", "/", ":authority", "a.example"), reset: 0x10e},
		{name: "WebSocket", bytes: requestH3("CONNECT", "/", "a.example", ":protocol", "websocket"), reset: 0x10e},
		{name: "CONNECT with a path", bytes: requestH3("CONNECT", "/", "a.example"), reset: 0x10e},
		{name: "Host unlike :authority", bytes: requestH3("GET", "/", "a.example", "host", "b.example"), reset: 0x10e},
		{name: "doubled Host", bytes: requestH3("GET", "/", "a.example", "host", "a.example", "host", "a.example"), reset: 0x10e},
		{name: "Connection", bytes: requestH3("GET", "/", "a.example", "connection", "close"), reset: 0x10e},
		{name: "Upgrade", bytes: requestH3("GET", "/", "a.example", "upgrade", "websocket"), reset: 0x10e},
		{name: "Transfer-Encoding", bytes: requestH3("POST", "/", "a.example", "transfer-encoding", "chunked"), reset: 0x10e},
		{name: "TE", bytes: requestH3("GET", "/", "a.example", "te", "gzip"), reset: 0x10e},

		{name: "DATA first", bytes: join(data, get), ends: 0x105},
		{name: "SETTINGS", bytes: frameH3(0x4, nil), ends: 0x105},
		{name: "PUSH_PROMISE", bytes: join(get, frameH3(0x5, []byte{0, 0, 0}), get), ends: 0x105},
		{name: "a frame of HTTP/2", bytes: frameH3(0x8, []byte{0}), ends: 0x105},
		{name: "frame cut", bytes: get[:len(get)-1], ends: 0x106},
		{name: "frame header cut", bytes: get[:1], ends: 0x106},
		{name: "body cut", bytes: join(post(), data[:4]), ends: 0x106},
		{name: "DATA after trailers", bytes: join(post(), data, headersH3("x", "y"), data), ends: 0x105},
		{name: "table", bytes: frameH3(0x1, []byte{0x01, 0x00, 0x80}), ends: 0x200},
		{name: "index", bytes: frameH3(0x1, []byte{0x00, 0x00, 0xff, 0xff, 0x7f}), ends: 0x200},
		{name: "cut section", bytes: frameH3(0x1, []byte{0x00, 0x00, 0x27}), ends: 0x200},
	} {
		c := e.dialH3(cert)
		s := c.open(tt.bytes, true)
		if tt.ends != 0 {
			if code, local := c.ended(); code != tt.ends || local {
				t.Errorf("%s: connection ended with %#x, want %#x", tt.name, code, tt.ends)
			}
			continue
		}
		a, err := c.read(s)
		if tt.reset != 0 {
			var reset *quic.StreamError
			if !errors.As(err, &reset) || uint64(reset.ErrorCode) != tt.reset {
				t.Errorf("%s: %+v, %v, want reset by %#x", tt.name, a, err, tt.reset)
			}
			if a, err := c.read(c.open(get, true)); err != nil || a.status != "200" {
				t.Errorf("%s: the next request: %v, %v", tt.name, a.status, err)
			}
			continue
		}
		if err != nil || a.status != tt.status || a.fields["x-sluice-error"] != tt.cause || tt.noBody && a.body != "" {
			t.Errorf("%s: %+v, %v, want %s %s", tt.name, a, err, tt.status, tt.cause)
		}
		if tt.trailer && !strings.Contains(a.body, "X-T") {
			t.Errorf("%s: backend got %s", tt.name, a.body)
		}
	}
}

// Streams without requests are held to their rules.
func TestH3_ControlStreams(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	settings := frameH3(0x4, []byte{0x06, 0x44, 0x00, 0x21, 0x01})
	for _, tt := range []struct {
		name string
		run  func(c *rawH3)
		ends uint64 // 0 = the connection goes on
	}{
		{"settings", func(c *rawH3) { c.uni(append([]byte{0x00}, settings...)...) }, 0},
		{"hints", func(c *rawH3) {
			c.uni(append(append([]byte{0x00}, settings...), 0x0d, 0x01, 0x05, 0x07, 0x01, 0x00, 0x21, 0x02, 0x01, 0x02)...)
		}, 0},
		{"all streams", func(c *rawH3) { c.uni(0x00, 0x04, 0x00); c.uni(0x02, 0x20); c.uni(0x03, 0x41) }, 0},
		{"unknown streams", func(c *rawH3) {
			for range 30 {
				s, err := c.OpenUniStreamSync(c.t.Context())
				c.must(err)
				// Whoever refuses the stream may have done so by now: nothing else is to come of it.
				_, _ = s.Write([]byte{0x21, 0x01})
				_ = s.Close()
			}
		}, 0},
		{"a stream that is nothing", func(c *rawH3) { c.must(c.uni().Close()) }, 0},
		{"no settings", func(c *rawH3) { c.uni(0x00, 0x0d, 0x01, 0x05) }, 0x10a},
		{"settings twice", func(c *rawH3) { c.uni(0x00, 0x04, 0x00, 0x04, 0x00) }, 0x105},
		{"doubled setting", func(c *rawH3) { c.uni(0x00, 0x04, 0x04, 0x06, 0x01, 0x06, 0x01) }, 0x109},
		{"setting of HTTP/2", func(c *rawH3) { c.uni(0x00, 0x04, 0x02, 0x03, 0x01) }, 0x109},
		{"cut settings", func(c *rawH3) { c.uni(0x00, 0x04, 0x01, 0x06) }, 0x106},
		{"large settings", func(c *rawH3) { c.uni(0x00, 0x04, 0x60, 0x00) }, 0x107},
		{"DATA", func(c *rawH3) { c.uni(0x00, 0x04, 0x00, 0x00, 0x01, 0x00) }, 0x105},
		{"frame of HTTP/2", func(c *rawH3) { c.uni(0x00, 0x04, 0x00, 0x06, 0x00) }, 0x105},
		{"two control streams", func(c *rawH3) { c.uni(0x00, 0x04, 0x00); c.uni(0x00, 0x04, 0x00) }, 0x103},
		{"closed", func(c *rawH3) { c.must(c.uni(0x00, 0x04, 0x00).Close()) }, 0x104},
		{"closed within a frame", func(c *rawH3) { c.must(c.uni(0x00, 0x04, 0x00, 0x0d).Close()) }, 0x104},
		{"reset", func(c *rawH3) {
			s := c.uni(0x00, 0x04, 0x00)
			_, _ = c.read(c.open(requestH3("GET", "/", "a.example"), true)) // By then the settings have come.
			s.CancelWrite(0x100)
		}, 0x104},
		{"push", func(c *rawH3) { c.uni(0x01, 0x00) }, 0x103},
		{"table", func(c *rawH3) { c.uni(0x02, 0x3f, 0x01) }, 0x201},
		{"table closed", func(c *rawH3) { c.must(c.uni(0x02).Close()) }, 0x104},
	} {
		c := e.dialH3Bare(cert)
		tt.run(c)
		if tt.ends != 0 {
			if code, local := c.ended(); code != tt.ends || local {
				t.Errorf("%s: ended with %#x, want %#x", tt.name, code, tt.ends)
			}
			continue
		}
		if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
			t.Errorf("%s: then a request: %v, %v", tt.name, a.status, err)
		}
	}
}

// Floods end their connection and no other.
func TestH3_Floods(t *testing.T) {
	t.Parallel()
	w := newWaiting(t, "")
	e, cert := newMultiEdge(t, routeList{"a.example": {"a", w.URL()}, "b.example": {"b", backendtest.Echo(t, "b").URL()}})
	many := func(s io.Writer, b []byte) {
		b = bytes.Repeat(b, 1000)
		for range 100 {
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	}
	for name, tt := range map[string]struct {
		reason string
		run    func(c *rawH3)
	}{
		"rapid reset": {"resets", func(c *rawH3) {
			for range 5000 {
				s, err := c.OpenStreamSync(c.t.Context())
				if err != nil {
					return
				}
				_, _ = s.Write(requestH3("GET", "/", "a.example"))
				s.CancelWrite(0x10c)
				s.CancelRead(0x10c)
			}
		}},
		"made you reset": {"resets", func(c *rawH3) {
			for range 5000 {
				s, err := c.OpenStreamSync(c.t.Context())
				if err != nil {
					return
				}
				_, _ = s.Write(requestH3("GET", "/", "a.example", "connection", "close"))
				_ = s.Close()
			}
		}},
		"control frames": {"control_frames", func(c *rawH3) { many(c.control, frameH3(0x21, nil)) }},
		"unknown frames": {"control_frames", func(c *rawH3) { many(c.open(requestH3("POST", "/", "b.example"), false), frameH3(0x21, nil)) }},
		"empty DATA":     {"control_frames", func(c *rawH3) { many(c.open(requestH3("POST", "/", "b.example"), false), frameH3(0x0, nil)) }},
	} {
		t.Run(name, func(t *testing.T) {
			other, c := e.dialH3(cert), e.dialH3(cert)
			before := e.metric(`sluice_http3_floods_total{reason="` + tt.reason + `"}`)
			tt.run(c)
			if code, local := c.ended(); code != 0x107 || local {
				t.Errorf("ended with %#x", code)
			}
			if got := e.metric(`sluice_http3_floods_total{reason="` + tt.reason + `"}`); got != before+1 {
				t.Errorf("floods: %v, before %v", got, before)
			}
			if a, err := other.read(other.open(requestH3("GET", "/", "b.example"), true)); err != nil || a.status != "200" {
				t.Errorf("another connection: %v, %v", a.status, err)
			}
		})
	}
	e.awaitInFlight(0)
}

// A client that keeps its body back is told when it is wanted, and by its backend.
func TestH3_Expect(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		_, _ = c.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, 5)); err == nil {
			_, _ = c.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
		}
	})
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH3(cert)
	s := c.open(requestH3("POST", "/", "a.example", "content-length", "5", "expect", "100-continue"), false)
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if kind, err := (http3Reader{s}).varint(); err != nil || kind != 0x1 {
		t.Fatalf("frame %d, %v", kind, err)
	}
	length, err := (http3Reader{s}).varint()
	c.must(err)
	_, err = io.CopyN(io.Discard, s, int64(length))
	c.must(err)
	_, err = s.Write(frameH3(0x0, []byte("hello")))
	c.must(err)
	c.must(s.Close())
	if a, err := c.read(s); err != nil || a.status != "200" || a.body != "done" {
		t.Errorf("%+v, %v", a, err)
	}
}

// A client that has sent its body gets its answer, also if it does not say that this was all.
func TestH3_LengthWithoutEnd(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH3(cert)
	for _, length := range []int{0, 5, 10_000, 100_000} {
		q := requestH3("POST", "/", "a.example", "content-length", strconv.Itoa(length))
		if length > 0 {
			q = append(q, frameH3(0x0, make([]byte, length))...)
		}
		if a, err := c.read(c.open(append(q, 0x0), false)); err != nil || a.status != "200" { // And half a frame's header.
			t.Errorf("length %d: %v, %v", length, a.status, err)
		}
	}
}

// A client that resets what it sends gives its request up, although it could still hear an answer.
func TestH3_UploadReset(t *testing.T) {
	t.Parallel()
	b := backendtest.Silent(t)
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	for i, length := range []string{"100000", ""} {
		fields := []string{"content-length", length}
		if length == "" {
			fields = nil
		}
		c := e.dialH3(cert)
		s := c.open(append(requestH3("POST", "/", "a.example", fields...), frameH3(0x0, []byte("hello"))...), false)
		e.awaitInFlight(1)
		s.CancelWrite(0x10c)
		if line := e.awaitLog(i + 1)[i]; !strings.Contains(line, " 499 ") {
			t.Errorf("length %q: log line %q", length, line)
		}
		e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, float64(i+1))
	}
}
