package cache

import (
	"errors"
	"strings"
	"testing"
)

func TestAppendHost(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63) + "."
	longest := strings.Repeat(label, 3) + strings.Repeat("a", 61)
	tests := []struct {
		name, raw, want string
		err             error
	}{
		{"plain", "www.example.com", "www.example.com", nil},
		{"case without a port", "WWW.Example.COM", "www.example.com", nil},
		{"case and port", "WWW.Example.COM:8080", "www.example.com", nil},
		{"one label", "localhost", "localhost", nil},
		{"trailing dot", "example.com.", "example.com", nil},
		{"trailing dot and port", "example.com.:80", "example.com", nil},
		{"underscore and hyphen", "__ping__", "__ping__", nil},
		{"address", "192.0.2.1:80", "192.0.2.1", nil},
		{"longest", longest, longest, nil},
		{"longest with its dot", longest + ".", longest, nil},
		{"v6", "[::1]", "[::1]", nil},
		{"v6 and port", "[2001:DB8::A]:443", "[2001:db8::a]", nil},
		{"empty", "", "", ErrNoHost},
		{"too long", longest + "a", "", ErrBadHost},
		{"only a dot", ".", "", ErrBadHost},
		{"two trailing dots", "a..", "", ErrBadHost},
		{"empty label", "a..b", "", ErrBadHost},
		{"leading dot", ".a", "", ErrBadHost},
		{"empty port", "a:", "", ErrBadHost},
		{"only a port", ":80", "", ErrBadHost},
		{"port zero", "a:0", "", ErrBadHost},
		{"port too large", "a:65536", "", ErrBadHost},
		{"port of letters", "a:http", "", ErrBadHost},
		{"port with a sign", "a:+80", "", ErrBadHost},
		{"two ports", "a:80:81", "", ErrBadHost},
		{"wildcard", "*.example.com", "", ErrBadHost},
		{"semicolon", "a;b", "", ErrBadHost},
		{"percent", "a%2eb", "", ErrBadHost},
		{"space", "a b", "", ErrBadHost},
		{"line break", "a\nb", "", ErrBadHost},
		{"user", "u@a", "", ErrBadHost},
		{"umlaut", "ä.example", "", ErrBadHost},
		{"bare v6", "::1", "", ErrBadHost},
		{"open bracket", "[::1", "", ErrBadHost},
		{"v4 in brackets", "[192.0.2.1]", "", ErrBadHost},
		{"name in brackets", "[a.example]", "", ErrBadHost},
		{"zone", "[fe80::1%eth0]", "", ErrBadHost},
		{"v6 with a tail", "[::1]a", "", ErrBadHost},
		{"v6 with an empty port", "[::1]:", "", ErrBadHost},
	}
	for _, tt := range tests {
		got, err := AppendHost([]byte("kept"), []byte(tt.raw))
		if string(got) != "kept"+tt.want || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: AppendHost(%q) = %q, %v; want %q, %v", tt.name, tt.raw, got, err, "kept"+tt.want, tt.err)
		}
	}
}

func TestWildcards(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a":               "*",
		"a.b":             "*.b *",
		"a.b.c":           "*.b.c *.c *",
		"1.2.3.4.5.6":     "*.2.3.4.5.6 *.3.4.5.6 *.4.5.6 *.5.6 *.6 *",
		"0.1.2.3.4.5.6":   "*.2.3.4.5.6 *.3.4.5.6 *.4.5.6 *.5.6 *.6 *",
		"y.x.1.2.3.4.5.6": "*.2.3.4.5.6 *.3.4.5.6 *.4.5.6 *.5.6 *.6 *",
		"[::1]":           "*",
	} {
		if got := strings.Join(wildcards(name), " "); got != want {
			t.Errorf("wildcards of %s: got %q, want %q", name, got, want)
		}
	}
}
