package accesslog

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// example is the request of the line in Hipache's README.
func example() *Record {
	return &Record{
		Peer:        netip.MustParseAddr("::1"),
		Time:        time.Date(2014, 2, 16, 0, 43, 10, 123456789, time.UTC),
		Method:      []byte("GET"),
		Target:      []byte("/"),
		Proto:       "HTTP/1.1",
		Host:        []byte("www.example.com"),
		UserAgent:   []byte("curl/7.30.0"),
		VHost:       "mywebsite",
		Backend:     "http://10.0.0.1:80",
		Status:      200,
		Bytes:       3236,
		Total:       11 * time.Millisecond,
		BackendTime: 9*time.Millisecond + 999*time.Microsecond,
		Attempts:    1,
	}
}

func render(l layout, r *Record) string {
	var c clock
	return string(appendLine(nil, l, c.at(r.Time), r))
}

func TestHipacheLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*Record)
		want string
	}{
		{
			"the documented example", func(*Record) {},
			`::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite" 0.011 0.009`,
		},
		{
			"IPv4 peer, query, referer",
			func(r *Record) {
				r.Peer = netip.MustParseAddr("192.0.2.7")
				r.Target, r.Referer = []byte("/a?b=c&d"), []byte("http://example.com/x")
			},
			`::ffff:192.0.2.7 - - [16/Feb/2014:00:43:10 +0000] "GET /a?b=c&d HTTP/1.1" 200 3236 "http://example.com/x" "curl/7.30.0" "mywebsite" 0.011 0.009`,
		},
		{
			"IPv4 peer on a dual-stack socket",
			func(r *Record) { r.Peer = netip.MustParseAddr("::ffff:192.0.2.7") },
			`::ffff:192.0.2.7 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite" 0.011 0.009`,
		},
		{
			"IPv6 peer that does not begin with two colons",
			func(r *Record) { r.Peer = netip.MustParseAddr("2001:db8::1") },
			`2001:db8::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite" 0.011 0.009`,
		},
		{
			"never got a backend",
			func(r *Record) { r.VHost, r.Status, r.Bytes, r.BackendTime = "", 400, 0, 0 },
			`::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 400 0 "" "curl/7.30.0" "-" 0.011 0`,
		},
		{
			"nothing known",
			func(r *Record) { *r = Record{Time: r.Time, Status: 400} },
			`- - - [16/Feb/2014:00:43:10 +0000] "- - -" 400 0 "" "" "-" 0 0`,
		},
		{
			"other time zone, other times",
			func(r *Record) {
				r.Time = time.Date(2014, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600))
				r.Total, r.BackendTime = time.Second, 500*time.Millisecond
			},
			`::1 - - [01/Jan/2015:00:59:59 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite" 1 0.5`,
		},
		{
			"hostile client",
			func(r *Record) {
				r.Target = []byte("/\n::1 - - forged")
				r.UserAgent = []byte("a\"b\\c\x00\x1b[31m\x7f\r\n\xff\xc2\x9bé")
			},
			`::1 - - [16/Feb/2014:00:43:10 +0000] "GET /\x0a::1 - - forged HTTP/1.1" 200 3236 "" "a\"b\\c\x00\x1b[31m\x7f\x0d\x0a\xff\xc2\x9bé" "mywebsite" 0.011 0.009`,
		},
		{
			"quotes in the identifier",
			func(r *Record) { r.VHost = "my \"site\"\n" },
			`::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "my \"site\"\x0a" 0.011 0.009`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := example()
			tt.edit(r)
			if got := render(layoutHipache, r); got != tt.want+"\n" {
				t.Errorf("got  %swant %s", got, tt.want)
			}
		})
	}
}

func TestPlanbLine(t *testing.T) {
	t.Parallel()
	r := example()
	r.RequestID, r.ForwardedFor = []byte("6ba7b810"), []byte("198.51.100.1, \"")
	want := `::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite"` +
		` "6ba7b810" "198.51.100.1, \"" 0.011 0.009` + "\n"
	if got := render(layoutPlanb, r); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestJSONLine(t *testing.T) {
	t.Parallel()
	r := example()
	want := `{"time":"2014-02-16T00:43:10.123Z","peer":"::1","method":"GET","target":"/","proto":"HTTP/1.1",` +
		`"host":"www.example.com","vhost":"mywebsite","status":200,"bytes":3236,"total":0.011,"backendTime":0.009,` +
		`"attempts":1,"tls":false,"backend":"http://10.0.0.1:80","userAgent":"curl/7.30.0"}` + "\n"
	if got := render(layoutJSON, r); got != want {
		t.Errorf("got  %swant %s", got, want)
	}

	r.Peer = netip.MustParseAddr("::ffff:192.0.2.7")
	r.UserAgent = []byte("a\"b\\c\x00\x7f\n\xff\u009bé\u2028")
	r.Cause, r.TLS, r.RequestID = "connect_failed", true, []byte("id")
	var got struct {
		Time                              time.Time
		Peer, UserAgent, Cause, RequestID string
		TLS                               bool
	}
	text := render(layoutJSON, r)
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	if want := "a\"b\\c\x00\x7f\n\ufffd\u009bé\u2028"; got.UserAgent != want {
		t.Errorf("userAgent: got %q; want %q", got.UserAgent, want)
	}
	if got.Peer != "192.0.2.7" || got.Cause != "connect_failed" || got.RequestID != "id" || !got.TLS {
		t.Errorf("got %+v from %s", got, text)
	}
	if !got.Time.Equal(r.Time.Truncate(time.Millisecond)) {
		t.Errorf("time: got %v; want %v", got.Time, r.Time)
	}
}

func TestAppendSeconds(t *testing.T) {
	t.Parallel()
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := string(appendSeconds(nil, d)); got != want {
			t.Errorf("%v: got %s; want %s", d, got, want)
		}
	}
	f(0, "0")
	f(999*time.Microsecond, "0")
	f(time.Millisecond, "0.001")
	f(11*time.Millisecond, "0.011")
	f(110*time.Millisecond, "0.11")
	f(500*time.Millisecond, "0.5")
	f(time.Second, "1")
	f(10*time.Second, "10")
	f(100*time.Second+20*time.Millisecond, "100.02")
	f(-time.Second, "0")
}

func TestPlainLen_AgreesWithByteByByte(t *testing.T) {
	t.Parallel()
	// Every byte value at every offset of two words, after neighbours that make the arithmetic
	// borrow and carry.
	for _, filler := range []byte{' ', '!', '~', 'a', '#', '['} {
		for c := range 256 {
			for at := range 17 {
				s := []byte(strings.Repeat(string(filler), 17))
				s[at] = byte(c)
				want := at
				if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
					want = len(s)
				}
				if got := plainLen(s); got != want {
					t.Fatalf("%q: got %d; want %d", s, got, want)
				}
			}
		}
	}
}

// FuzzLine sends hostile bytes through both formats: a record is one line of valid UTF-8 without
// control characters, has the fields that it should have, and reads back.
func FuzzLine(f *testing.F) {
	f.Add([]byte("/a b"), []byte("curl"), "site")
	f.Add([]byte("\" 200 1 \"\n"), []byte("\\\"\xff\xc2\x9b"), "\x00\u2028")
	f.Fuzz(func(t *testing.T, target, agent []byte, vhost string) {
		r := example()
		r.Target, r.UserAgent, r.VHost = target, agent, vhost
		line := render(layoutHipache, r)
		checkLine(t, line)
		// Without escaped characters the quotes left are those of the format.
		bare := strings.NewReplacer(`\\`, "", `\"`, "").Replace(line)
		if got := strings.Count(bare, `"`); got != 8 {
			t.Errorf("%q has %d quotes; want 8", line, got)
		}
		line = render(layoutJSON, r)
		checkLine(t, line)
		var got struct{ Target, UserAgent, VHost string }
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("parse %q: %v", line, err)
		}
		if want := strings.ToValidUTF8(vhost, "\ufffd"); utf8.ValidString(vhost) && got.VHost != want {
			t.Errorf("vhost: got %q; want %q", got.VHost, want)
		}
	})
}

func checkLine(t *testing.T, line string) {
	t.Helper()
	if !utf8.ValidString(line) {
		t.Errorf("%q is no UTF-8", line)
	}
	body, ok := strings.CutSuffix(line, "\n")
	if !ok {
		t.Errorf("%q has no line feed at its end", line)
	}
	for _, c := range body {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			t.Errorf("%q holds the control character %#x", line, c)
		}
	}
}
