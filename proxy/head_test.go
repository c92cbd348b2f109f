package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// Rules with the default limits.
var (
	strictRules  = headRules{maxBytes: 16384, maxFields: 100}
	lenientRules = headRules{maxBytes: maxAnswerHead, maxFields: maxAnswerField, lenient: true}
)

const requestLine = "GET / HTTP/1.1\r\n"

// scanWhole scans a head that is in memory as a whole.
func scanWhole(raw string, rules *headRules) (h head, n int, bad Kind) {
	n, bad = h.scan([]byte(raw), rules)
	return h, n, bad
}

// scanSlowly scans a head that comes byte by byte.
func scanSlowly(raw string, rules *headRules) (h head, n int, bad Kind) {
	b := []byte(raw)
	for i := range b {
		if n, bad = h.scan(b[:i+1], rules); n > 0 || bad != 0 {
			return h, n, bad
		}
	}
	return h, 0, 0
}

// fieldLines returns the fields as they would be passed on.
func (h *head) fieldLines() string {
	var out []byte
	for i := range h.fields {
		out = h.appendField(out, &h.fields[i])
	}
	return string(out)
}

// checkScan checks that a head is judged the same however it comes in.
func checkScan(t *testing.T, raw string, rules *headRules, wantN int, want Kind) (whole head) {
	t.Helper()
	whole, n, bad := scanWhole(raw, rules)
	if n != wantN || bad != want {
		t.Errorf("%.80q: got %d, %v, want %d, %v", raw, n, bad, wantN, want)
	}
	slow, n, bad := scanSlowly(raw, rules)
	if n != wantN || bad != want {
		t.Errorf("%.80q byte by byte: got %d, %v, want %d, %v", raw, n, bad, wantN, want)
	}
	if want == KindNone && wantN > 0 && whole.fieldLines() != slow.fieldLines() {
		t.Errorf("%.80q: fields %q, byte by byte %q", raw, whole.fieldLines(), slow.fieldLines())
	}
	return whole
}

func TestHead_Request(t *testing.T) {
	t.Parallel()
	accept := func(raw string) {
		t.Helper()
		checkScan(t, raw, &strictRules, len(raw), KindNone)
	}
	refuse := func(raw string) {
		t.Helper()
		checkScan(t, raw, &strictRules, 0, KindBadRequest)
	}
	wait := func(raw string) {
		t.Helper()
		checkScan(t, raw, &strictRules, 0, KindNone)
	}
	accept(requestLine + "\r\n")
	accept(requestLine + "Host: h\r\n\r\n")
	accept("\r\n" + requestLine + "\r\n") // RFC 9112 §2.2: what old clients sent behind a POST.
	accept("\r\n\r\n" + requestLine + "\r\n")
	accept(requestLine + "X:\r\n\r\n")
	accept(requestLine + "X: \t \r\n\r\n")
	accept(requestLine + "X: a\tb\r\n\r\n")
	accept(requestLine + "X: \x80\xff\r\n\r\n")

	wait("")
	wait("\r")
	wait("GET")
	wait(requestLine)
	wait(requestLine + "Host: h\r\n")
	wait(requestLine + "Host: h\r\n\r")

	refuse("\r\n\r\n\r\n" + requestLine + "\r\n")
	refuse("\n" + requestLine + "\r\n")
	refuse("\x16\x03\x01") // A TLS handshake on a plain port has no line end to wait for.
	refuse("GET /\r\n")    // HTTP/0.9 has no head to wait for.
	refuse("GET / HTTP/1.1 \r\n")
	refuse("hello\r\n")
	refuse(" " + requestLine)
	refuse("@GET / HTTP/1.1\r\n")
	refuse("GET / HTTP/1.1\n\n")
	refuse("GET / HTTP/1.1\r\r\n\r\n")
	refuse("GET / HTTP/1.1\r\nX: a\n\r\n")
	refuse("GET / HTTP/1.1\r\nX: a\r\n\n")
	refuse("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n")
	refuse("GET / HTTP/1.1\r\nX: a\r\r\n\r\n")
	refuse("GET /\rX HTTP/1.1\r\n\r\n")
	refuse("GET /\tX HTTP/1.1\r\n\r\n")
	refuse(requestLine + "X : a\r\n\r\n")
	refuse(requestLine + "X\t: a\r\n\r\n")
	refuse(requestLine + " X: a\r\n\r\n")
	refuse(requestLine + "X: a\r\n b\r\n\r\n")
	refuse(requestLine + "X: a\r\n\tb\r\n\r\n")
	refuse(requestLine + "X: a\r\n \r\n\r\n")
	refuse(requestLine + ": a\r\n\r\n")
	refuse(requestLine + "X\r\n\r\n")
	refuse(requestLine + "X Y: a\r\n\r\n")
	refuse(requestLine + "\"X\": a\r\n\r\n")
}

func TestHead_EveryByteInAName(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		c := byte(i)
		raw := requestLine + "X" + string([]byte{c}) + "Y: v\r\n\r\n"
		want, n := KindNone, len(raw)
		if !tchar(c) && c != ':' {
			want, n = KindBadRequest, 0
		}
		checkScan(t, raw, &strictRules, n, want)
		// A space before the colon is mended in answers; between two halves of a name it is not.
		answer := "HTTP/1.1 200 OK\r\nX" + string([]byte{c}) + "Y: v\r\n\r\n"
		want, n = KindBadRequest, 0
		if tchar(c) || c == ':' {
			want, n = KindNone, len(answer)
		}
		checkScan(t, answer, &lenientRules, n, want)
	}
}

func TestHead_EveryByteInAValue(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		c := byte(i)
		raw := requestLine + "X: a" + string([]byte{c}) + "b: c\r\n\r\n"
		want, n := KindNone, len(raw)
		if c < 0x20 && c != '\t' || c == 0x7f {
			want, n = KindBadRequest, 0
		}
		checkScan(t, raw, &strictRules, n, want)
		// Control bytes in answers do no harm to anybody, but for the ones that end lines or strings. LF ends a line there.
		answer := "HTTP/1.1 200 OK\r\nX: a" + string([]byte{c}) + "b: c\r\n\r\n"
		want, n = KindNone, len(answer)
		if c == '\r' || c == 0 {
			want, n = KindBadRequest, 0
		}
		checkScan(t, answer, &lenientRules, n, want)
	}
}

func TestHead_Answer(t *testing.T) {
	t.Parallel()
	const status = "HTTP/1.1 200 OK\r\n"
	pass := func(raw, fields string) {
		t.Helper()
		h := checkScan(t, raw, &lenientRules, len(raw), KindNone)
		if got := h.fieldLines(); got != fields {
			t.Errorf("%q: passed on as %q, want %q", raw, got, fields)
		}
	}
	refuse := func(raw string) {
		t.Helper()
		checkScan(t, raw, &lenientRules, 0, KindBadRequest)
	}
	pass(status+"A: b\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n")
	pass("HTTP/1.1 200 OK\nA: b\n\n", "A: b\r\n")
	pass("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\n", "A: b\r\nC: d\r\n")
	pass(status+"A : b\r\n\r\n", "A: b\r\n")
	pass(status+"A \t : b\r\n\r\n", "A: b\r\n")
	pass(status+"A:b\r\n\r\n", "A:b\r\n")
	pass(status+"a:   b  \r\n\r\n", "a:   b  \r\n")
	pass(status+"A: b\r\n c\r\n\r\n", "A: b   c\r\n")
	pass(status+"A: b\n\tc\n\n", "A: b \tc\r\n")
	pass(status+"A: b\r\n c\r\n  d\r\nE: f\r\n\r\n", "A: b   c    d\r\nE: f\r\n")
	pass(status+"A:\r\n b\r\n\r\n", "A: b\r\n")
	pass(status+"A: b\r\n \r\n\r\n", "A: b\r\n")
	pass("HTTP/1.1 200 a\tb\r\n\r\n", "")
	pass("\r\n"+status+"\r\n", "")

	refuse(status + " A: b\r\n\r\n")
	refuse(status + "A\r\n\r\n")
	refuse(status + ": b\r\n\r\n")
	refuse(status + "A: b\r\r\n\r\n")
	refuse(status + "A: b\r\n c\rd\r\n\r\n")
	refuse(status + "A: b\r\n c\x00d\r\n\r\n")
	refuse("HTTP/1.1 200 a\rb\r\n\r\n")
	refuse("HTTP/1.1 200 a\x00b\r\n\r\n")
	refuse("HTTP/1.1 200 a\x1bb\r\n\r\n")
	refuse("\n\n\n" + status + "\r\n")
}

func TestHead_Limits(t *testing.T) {
	t.Parallel()
	rules := headRules{maxBytes: 1000, maxFields: 5}
	f := func(name, raw string, n int, want Kind) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			checkScan(t, raw, &rules, n, want)
		})
	}
	sized := func(total int) string {
		const frame = requestLine + "X: " + "\r\n\r\n"
		return requestLine + "X: " + strings.Repeat("a", total-len(frame)) + "\r\n\r\n"
	}
	f("as large as allowed", sized(1000), 1000, KindNone)
	f("a byte too large", sized(1001), 0, KindHeadTooLarge)
	f("much too large", sized(5000), 0, KindHeadTooLarge)
	f("large without an end", sized(5000)[:1000], 0, KindHeadTooLarge)
	f("nearly too large without an end", sized(5000)[:999], 0, KindNone)
	f("target too long", "GET /"+strings.Repeat("a", 2000)+" HTTP/1.1\r\n\r\n", 0, KindTargetTooLong)
	f("target without an end", "GET /"+strings.Repeat("a", 995), 0, KindTargetTooLong)
	f("five fields", requestLine+strings.Repeat("A: b\r\n", 5)+"\r\n", len(requestLine)+32, KindNone)
	f("six fields", requestLine+strings.Repeat("A: b\r\n", 6)+"\r\n", 0, KindHeadTooLarge)
}

// What follows a head, or a body, is another message: the scan must not look at it.
func TestHead_LeavesTheRest(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{"x", "\x00\x01", "\r\n", "GET / HTTP/1.1\r\nX : y\r\n\r\n", strings.Repeat("z", 40000)} {
		raw := requestLine + "Host: h\r\n\r\n"
		_, n, bad := scanWhole(raw+rest, &strictRules)
		if n != len(raw) || bad != KindNone {
			t.Errorf("followed by %.20q: got %d, %v, want %d", rest, n, bad, len(raw))
		}
	}
}

func TestHead_Reset(t *testing.T) {
	t.Parallel()
	var h head
	if n, bad := h.scan([]byte(requestLine+"A: b\r\nC: d\r\n\r\n"), &strictRules); n == 0 || bad != KindNone {
		t.Fatalf("got %d, %v", n, bad)
	}
	h.reset()
	n, bad := h.scan([]byte("\r\nGET /2 HTTP/1.1\r\nE: f\r\n\r\n"), &strictRules)
	if n == 0 || bad != KindNone || h.fieldLines() != "E: f\r\n" || string(h.start.of(h.b)) != "GET /2 HTTP/1.1" {
		t.Errorf("after reset: got %d, %v, %q, %q", n, bad, h.start.of(h.b), h.fieldLines())
	}
}

func TestHead_Lookups(t *testing.T) {
	t.Parallel()
	h, n, _ := scanWhole(requestLine+"Connection: a, Upgrade\r\nX: 1\r\nConnection:\r\nconnection: X , keep-alive\r\n"+
		"Referer: r1\r\nReferer: r2\r\n\r\n", &strictRules)
	if n == 0 {
		t.Fatal("not scanned")
	}
	for option, want := range map[string]bool{"a": true, "upgrade": true, "keep-alive": true, "x": true, "close": false} {
		if got := h.lists(option); got != want {
			t.Errorf("lists %q: got %v, want %v", option, got, want)
		}
		if got := h.listsField([]byte(strings.ToUpper(option))); got != want {
			t.Errorf("lists field %q: got %v, want %v", option, got, want)
		}
	}
	if got := string(h.value(fieldReferer)); got != "r1" {
		t.Errorf("first referer: got %q", got)
	}
	if h.value(fieldUserAgent) != nil || h.has(fieldUserAgent) || !h.has(fieldReferer) {
		t.Error("fields are found that are not there, or not found")
	}
}

// parts is a source that reads the given parts, one after another, and then an error.
func parts(end error, list ...string) *source {
	s := &source{}
	s.buf.acquire(smallBuffer)
	s.read = func(p []byte) (int, error) {
		if len(list) == 0 {
			return 0, end
		}
		n := copy(p, list[0])
		if list[0] = list[0][n:]; list[0] == "" {
			list = list[1:]
		}
		return n, nil
	}
	return s
}

// pieces is a source that reads what is to be read in pieces of a given size, and then an error.
func pieces(raw string, size int, end error) *source {
	var list []string
	for ; len(raw) > size; raw = raw[size:] {
		list = append(list, raw[:size])
	}
	if raw != "" {
		list = append(list, raw)
	}
	return parts(end, list...)
}

// A head that outgrows its buffer moves, and so does one behind an interim answer; what was found before must move with it.
func TestSource_ScanHeadGrowsItsBuffer(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for i := range 90 {
		fmt.Fprintf(&want, "Field-%d: %s\r\n", i, strings.Repeat(string(rune('a'+i%26)), i*7))
	}
	raw := "HTTP/1.1 200 OK\r\n" + want.String() + "\r\n"
	for _, size := range []int{1, 7, 4096, 4097, 1 << 20} {
		interim := "HTTP/1.1 103 Early Hints\r\n\r\n"
		s, h := pieces(interim+raw+"body", size, io.EOF), head{}
		if n, _, _ := s.scanHead(&h, &lenientRules); n != len(interim) {
			t.Fatalf("pieces of %d: got an interim answer of %d bytes", size, n)
		}
		s.r += len(interim)
		h.reset()
		n, bad, err := s.scanHead(&h, &lenientRules)
		if n != len(raw) || bad != KindNone || err != nil {
			t.Fatalf("pieces of %d: got %d, %v, %v, want %d", size, n, bad, err, len(raw))
		}
		if got := h.fieldLines(); got != want.String() {
			t.Errorf("pieces of %d: fields differ: %q", size, got)
		}
		if rest := string(s.buffered()[n:]); !strings.HasPrefix("body", rest) {
			t.Errorf("pieces of %d: left %q behind the head", size, rest)
		}
	}
}

func TestSource_ScanHeadStops(t *testing.T) {
	t.Parallel()
	f := func(name, raw string, end error, want Kind, wantErr error) {
		t.Helper()
		for _, size := range []int{1, 4096, 1 << 20} {
			s, h := pieces(raw, size, end), head{}
			n, bad, err := s.scanHead(&h, &lenientRules)
			if n != 0 || bad != want || err != wantErr {
				t.Errorf("%s, pieces of %d: got %d, %v, %v, want %v, %v", name, size, n, bad, err, want, wantErr)
			}
		}
	}
	f("cut", "HTTP/1.1 200 OK\r\nA: b\r\n", io.EOF, KindNone, io.EOF)
	f("nothing", "", io.EOF, KindNone, io.EOF)
	f("time limit", "HTTP/1.1", errTimedOut, KindNone, errTimedOut)
	f("endless field", "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("b", maxAnswerHead), io.EOF, KindHeadTooLarge, nil)
	f("endless status line", "HTTP/1.1 200 "+strings.Repeat("b", maxAnswerHead), io.EOF, KindTargetTooLong, nil)
	f("no progress", "", nil, KindNone, io.ErrNoProgress)
}
