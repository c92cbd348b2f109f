package proxy

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// readBody reads a body to its end or error, which is nil at a proper end.
func readBody(b *body) (data string, err error) {
	var out strings.Builder
	for {
		p, err := b.next()
		out.Write(p)
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
	}
}

// bodyResult is everything that can be seen of a body that was read.
type bodyResult struct {
	data, trailers, rest string
	err                  error
}

// readPieces reads a body that comes in pieces of the given size; the connection ends behind it.
func readPieces(raw string, size int, f framing, length int64) bodyResult {
	return readFrom(pieces(raw, size, io.EOF), f, length)
}

// readFrom reads a body, and if it was whole what follows it.
func readFrom(src *source, f framing, length int64) (r bodyResult) {
	b := &body{}
	b.start(src, f, length)
	r.data, r.err = readBody(b)
	if b.done() != (r.err == nil) || int(b.total) != len(r.data) {
		r.err = fmt.Errorf("done %v, total %d, but read %d bytes: %v", b.done(), b.total, len(r.data), r.err)
	}
	if r.err != nil {
		return r
	}
	for src.fill() == nil {
		continue
	}
	r.rest, r.trailers = string(src.buffered()), b.trailer.fieldLines() // What follows must not overwrite the trailers.
	return r
}

// checkBody checks a body that is fed whole, byte by byte, and cut in two at every place.
func checkBody(t *testing.T, raw string, f framing, length int64, want bodyResult) {
	t.Helper()
	same := func(how string, got bodyResult) {
		t.Helper()
		if got != want {
			t.Errorf("%.100q %s:\n got %.200q\nwant %.200q", raw, how, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
	same("whole", readPieces(raw, 1<<20, f, length))
	same("byte by byte", readPieces(raw, 1, f, length))
	same("in threes", readPieces(raw, 3, f, length))
	if len(raw) < 2000 {
		for at := range raw {
			if at > 0 {
				same(fmt.Sprintf("cut at %d", at), readFrom(parts(io.EOF, raw[:at], raw[at:]), f, length))
			}
		}
	}
}

func TestBody_Length(t *testing.T) {
	t.Parallel()
	checkBody(t, "hello", framingLength, 5, bodyResult{data: "hello"})
	checkBody(t, "hello, world", framingLength, 5, bodyResult{data: "hello", rest: ", world"})
	checkBody(t, "hell", framingLength, 5, bodyResult{data: "hell", err: errBodyCut})
	checkBody(t, "", framingLength, 5, bodyResult{err: errBodyCut})
	checkBody(t, "hello", framingNone, 0, bodyResult{rest: "hello"})
	checkBody(t, "", framingNone, 0, bodyResult{})
	checkBody(t, "hello", framingClose, 0, bodyResult{data: "hello"})
	checkBody(t, "", framingClose, 0, bodyResult{})
	big := strings.Repeat("0123456789", 20000)
	checkBody(t, big+"rest", framingLength, int64(len(big)), bodyResult{data: big, rest: "rest"})
	checkBody(t, big, framingClose, 0, bodyResult{data: big})
}

func TestBody_Chunked(t *testing.T) {
	t.Parallel()
	const end = "0\r\n\r\n"
	f := func(raw, data, trailers, rest string) {
		t.Helper()
		checkBody(t, raw, framingChunked, 0, bodyResult{data: data, trailers: trailers, rest: rest})
	}
	f(end, "", "", "")
	f("5\r\nhello\r\n"+end, "hello", "", "")
	f("5\r\nhello\r\n2\r\n!!\r\n"+end, "hello!!", "", "")
	f("a\r\n0123456789\r\nA\r\n0123456789\r\n"+end, "01234567890123456789", "", "")
	f("0005\r\nhello\r\n0000\r\n\r\n", "hello", "", "")
	f("0000000000000005\r\nhello\r\n"+end, "hello", "", "")
	f("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", "", "")
	f("5;\r\nhello\r\n"+end, "hello", "", "")
	f("5 ;a=\"b;\t\\\"c\"\r\nhello\r\n"+end, "hello", "", "")
	f("5\t \r\nhello\r\n"+end, "hello", "", "") // RFC 9112 §7.1.1: white space where an extension might begin
	f("4\r\n\r\n\r\n\r\n"+end, "\r\n\r\n", "", "")
	f("5\r\n0\r\n\r\n\r\n"+end, "0\r\n\r\n", "", "")
	f("5\r\nhello\r\n"+end+"GET / HTTP/1.1\r\n", "hello", "", "GET / HTTP/1.1\r\n")
	f("1\r\na\r\n0\r\nX-Sum: 1\r\nY:2\r\n\r\nrest", "a", "X-Sum: 1\r\nY:2\r\n", "rest")
	f("0\r\nX: \x80\t\r\n\r\n", "", "X: \x80\t\r\n", "")
	big := strings.Repeat("x", 100000)
	f(fmt.Sprintf("%x\r\n%s\r\n", len(big), big)+end, big, "", "")
	f(strings.Repeat("1\r\nx\r\n", 20000)+end, strings.Repeat("x", 20000), "", "")
}

func TestBody_ChunkedRefused(t *testing.T) {
	t.Parallel()
	f := func(raw, data string) {
		t.Helper()
		checkBody(t, raw, framingChunked, 0, bodyResult{data: data, err: errBodySyntax})
	}
	for _, line := range []string{
		"", " 5", "\t5", "+5", "-5", "0x5", "x", "g", "5g", "5 5", "5,", "5:a", "\x005", "5\x00", "5;a\x00", "5;\x7f", "5;a\rb",
		";a", "\"5\"", "00000000000000005", "10000000000000000", "ffffffffffffffff", "8000000000000000", "fffffffffffffffff",
		"5\v", "5\r", "٥", "5\xa0",
	} {
		f(line+"\r\nhello\r\n0\r\n\r\n", "")
	}
	f("5\nhello\r\n0\r\n\r\n", "")
	f("5;a\nhello\r\n0\r\n\r\n", "")
	f("5\r\nhello\n0\r\n\r\n", "hello")
	f("5\r\nhello0\r\n\r\n", "hello")
	f("5\r\nhello\r0\r\n\r\n", "hello")
	f("5\r\nhello \r\n0\r\n\r\n", "hello")
	f("5\r\nhello!\r\n0\r\n\r\n", "hello")
	f("5\r\nhello\r\n\r\n0\r\n\r\n", "hello")
	f("5\r\nhello\r\n0\n\r\n", "hello")
	f("0\r\nX: y\n\r\n", "")
	f("0\r\nX: y\r\n\n\r\n\r\n", "")
	f("0\r\nX\r\n\r\n", "")
	f("0\r\nX : y\r\n\r\n", "")
	f("0\r\n X: y\r\n\r\n", "")
	f("0\r\nX: y\r\n z\r\n\r\n", "")
	f("0\r\nX: \x00\r\n\r\n", "")
	f("0\r\nX: y\rz\r\n\r\n", "")
	f("0\r\n: y\r\n\r\n", "")
	f("0\r\n\rX: y\r\n\r\n", "")
}

// A chunked body that ends anywhere but at its end is cut, never complete: FIN is no substitute for the last chunk.
func TestBody_ChunkedCutAnywhere(t *testing.T) {
	t.Parallel()
	const raw = "5;ext=1\r\nhello\r\n3\r\n, w\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"
	for at := range raw {
		for _, size := range []int{1, 2, 1 << 20} {
			got := readPieces(raw[:at], size, framingChunked, 0)
			if got.err != errBodyCut || !strings.HasPrefix("hello, w", got.data) || got.trailers != "" {
				t.Errorf("cut at %d, pieces of %d: got %q", at, size, fmt.Sprint(got))
			}
		}
	}
	if got := readPieces(raw, 1, framingChunked, 0); got != (bodyResult{data: "hello, w", trailers: "X-Sum: 1\r\nY: 2\r\n"}) {
		t.Errorf("uncut: got %q", fmt.Sprint(got))
	}
}

func TestBody_ChunkedLimits(t *testing.T) {
	t.Parallel()
	const end = "0\r\n\r\n"
	f := func(name, raw string, data string, wantErr error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 4096, 1 << 20} {
				if got := readPieces(raw, size, framingChunked, 0); got.err != wantErr || got.data != data {
					t.Errorf("pieces of %d: got %d bytes, %v; want %d bytes, %v", size, len(got.data), got.err, len(data), wantErr)
				}
			}
		})
	}
	line := func(n int) string { return "1;" + strings.Repeat("e", n-4) + "\r\n" }
	f("longest size line", line(maxChunkLine)+"x\r\n"+end, "x", nil)
	f("size line too long", line(maxChunkLine+2)+"x\r\n"+end, "", errBodySyntax)
	f("size line without an end", line(1 << 20)[:maxChunkLine+1], "", errBodySyntax)

	// Extensions are bytes that nobody pays for in data: a body may waste so much and no more.
	each := 1000 + 2 - chunkAllowance
	most := maxChunkWaste / each
	wasteful := line(1000) + "x\r\n"
	f("most waste", strings.Repeat(wasteful, most)+end, strings.Repeat("x", most), nil)
	f("too much waste", strings.Repeat(wasteful, most+1)+end, strings.Repeat("x", most), errBodySyntax)
	f("small extensions for ever", strings.Repeat("1;ext=12345\r\nx\r\n", 50000)+end, strings.Repeat("x", 50000), nil)

	f("most trailers", "0\r\n"+strings.Repeat("X: y\r\n", maxTrailers)+"\r\n", "", nil)
	f("too many trailers", "0\r\n"+strings.Repeat("X: y\r\n", maxTrailers+1)+"\r\n", "", errBodySyntax)
	trailer := func(n int) string { return "X: " + strings.Repeat("y", n-7) + "\r\n\r\n" }
	f("largest trailers", "0\r\n"+trailer(maxTrailerBytes), "", nil)
	f("trailers too large", "0\r\n"+trailer(maxTrailerBytes+1), "", errBodySyntax)
	f("trailers without an end", "0\r\n"+trailer(1 << 20)[:maxTrailerBytes+1], "", errBodySyntax)
}

func TestBody_DataLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raw     string
		framing framing
		length  int64
		want    error
	}{
		{"0123456789", framingLength, 10, nil},
		{"0123456789a", framingLength, 11, errBodyLimit},
		{"0123456789", framingClose, 0, nil},
		{"0123456789a", framingClose, 0, errBodyLimit},
		{"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", framingChunked, 0, nil},
		{"5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n", framingChunked, 0, errBodyLimit},
		{strings.Repeat("1\r\nx\r\n", 11), framingChunked, 0, errBodyLimit},
	} {
		for _, size := range []int{1, 3, 1 << 20} {
			b := &body{}
			b.start(pieces(c.raw, size, io.EOF), c.framing, c.length)
			b.limit = 10
			if _, err := readBody(b); err != c.want {
				t.Errorf("%q in pieces of %d: got %v, want %v", c.raw, size, err, c.want)
			}
			if _, again := b.next(); c.want != nil && again != c.want {
				t.Errorf("%q in pieces of %d: after the error got %v", c.raw, size, again)
			}
		}
	}
}

// An error is for ever: nothing that comes later makes a broken body whole.
func TestBody_ErrorsStick(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, f := range []framing{framingLength, framingChunked, framingClose} {
		raw, fails := "1\r\na", true
		b, src := &body{}, &source{}
		src.buf.acquire(smallBuffer)
		src.read = func(p []byte) (int, error) {
			if len(raw) == 0 && fails {
				fails = false
				raw = "\r\n0\r\n\r\n"
				return 0, boom
			}
			n := copy(p, raw)
			raw = raw[n:]
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		}
		b.start(src, f, 8)
		if _, err := readBody(b); err != boom {
			t.Fatalf("framing %d: got %v, want %v", f, err, boom)
		}
		for range 3 {
			if p, err := b.next(); len(p) > 0 || err != boom {
				t.Errorf("framing %d: after the error got %q, %v", f, p, err)
			}
			if p, err := b.ready(); len(p) > 0 || err != boom || b.done() {
				t.Errorf("framing %d: after the error got %q, %v, done %v", f, p, err, b.done())
			}
		}
	}
}

// ready must say "read the connection first" and never read it: event streams would stall or block.
func TestBody_ReadyDoesNotRead(t *testing.T) {
	t.Parallel()
	src, b := pieces("3\r\nabc\r\n0\r\n\r\n", 4, io.EOF), &body{}
	reads, read := 0, src.read
	src.read = func(p []byte) (int, error) {
		reads++
		return read(p)
	}
	b.start(src, framingChunked, 0)
	for range 3 {
		if p, err := b.ready(); len(p) > 0 || err != nil || reads != 0 {
			t.Fatalf("got %q, %v after %d reads", p, err, reads)
		}
	}
	if p, err := b.next(); string(p) != "a" || err != nil || reads != 1 {
		t.Fatalf("got %q, %v after %d reads", p, err, reads)
	}
	if p, err := b.ready(); len(p) > 0 || err != nil || reads != 1 {
		t.Fatalf("got %q, %v after %d reads", p, err, reads)
	}
	if data, err := readBody(b); data != "bc" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}

// A body reader serves one message after another on a connection.
func TestBody_StartAgain(t *testing.T) {
	t.Parallel()
	src, b := pieces("1\r\na\r\n0\r\nX: y\r\n\r\n"+"bcd"+"1\r\ne\r\n0\r\n\r\n", 1, io.EOF), &body{}
	for _, c := range []struct {
		framing  framing
		length   int64
		data     string
		trailers string
	}{
		{framingChunked, 0, "a", "X: y\r\n"}, {framingLength, 3, "bcd", ""}, {framingNone, 0, "", ""}, {framingChunked, 0, "e", ""},
	} {
		b.start(src, c.framing, c.length)
		if data, err := readBody(b); data != c.data || err != nil || b.trailer.fieldLines() != c.trailers {
			t.Errorf("got %q, %v, trailers %q; want %q, %q", data, err, b.trailer.fieldLines(), c.data, c.trailers)
		}
	}
}

func TestAppendTrailers(t *testing.T) {
	t.Parallel()
	var h head
	raw := "Content-Length: 5\r\nx-checksum: 1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\nAuthorization: a\r\nTrailer: b\r\n" +
		"Set-Cookie: c\r\nServer-Timing: d\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nConnection: close\r\n" +
		"CONTENT-TYPE: e\r\nIf-Match: f\r\nX-Debug: 1\r\nGrpc-Status: 0\r\nCookie: g\r\nCache-Control: no-store\r\nTE: trailers\r\n" +
		"Upgrade: h2c\r\nX-Real-IP: 1.2.3.4\r\nVary: *\r\nExpect: 100-continue\r\nMax-Forwards: 1\r\nKeep-Alive: 1\r\n\r\n"
	rules := trailerRules
	if n, bad := h.scan([]byte(raw), &rules); n != len(raw) || bad != KindNone {
		t.Fatalf("got %d, %v", n, bad)
	}
	want := "0\r\nx-checksum: 1\r\nServer-Timing: d\r\nGrpc-Status: 0\r\n\r\n"
	if got := string(appendTrailers([]byte("0\r\n"), &h)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(appendTrailers(nil, &head{})); got != "\r\n" {
		t.Errorf("no trailers: got %q", got)
	}
}

func TestAppendChunk(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 9, 10, 15, 16, 17, 255, 256, 4095, 65536, 1 << 20} {
		data := strings.Repeat("x", n)
		if got, want := string(appendChunk([]byte("-"), []byte(data))), fmt.Sprintf("-%x\r\n%s\r\n", n, data); got != want {
			t.Errorf("%d bytes: got %.20q…, want %.20q…", n, got, want)
		}
	}
	for _, n := range []int{0, math.MaxInt} {
		if got, want := string(appendHex(nil, n)), fmt.Sprintf("%x", n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
