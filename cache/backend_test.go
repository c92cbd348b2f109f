package cache

import (
	"errors"
	"strings"
	"testing"
)

func noOwn(string) bool { return false }

func TestParseBackend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		element string
		want    Backend // URL is filled in
		bad     string
	}{
		{"http://10.0.0.1:8080", Backend{Address: "10.0.0.1:8080", Weight: 1, Key: "http://10.0.0.1:8080"}, ""},
		{"http://10.0.0.1", Backend{Address: "10.0.0.1:80", Weight: 1, Key: "http://10.0.0.1:80"}, ""},
		{"10.0.0.1:8080", Backend{Address: "10.0.0.1:8080", Weight: 1, Key: "http://10.0.0.1:8080"}, ""},
		{"10.0.0.1", Backend{Address: "10.0.0.1:80", Weight: 1, Key: "http://10.0.0.1:80"}, ""},
		{"//10.0.0.1:81/x", Backend{Address: "10.0.0.1:81", Weight: 1, Key: "http://10.0.0.1:81"}, ""},
		{"HTTP://App.Internal:81/path?q#", Backend{Address: "app.internal:81", Weight: 1, Key: "http://app.internal:81"}, ""},
		{"http://user:secret@10.0.0.1:81/", Backend{Address: "10.0.0.1:81", Weight: 1, Key: "http://10.0.0.1:81"}, ""},
		{"http://[2001:db8::1]", Backend{Address: "[2001:db8::1]:80", Weight: 1, Key: "http://[2001:db8::1]:80"}, ""},
		{"[2001:DB8::1]:81", Backend{Address: "[2001:db8::1]:81", Weight: 1, Key: "http://[2001:db8::1]:81"}, ""},
		{"http://a#weight=3", Backend{Address: "a:80", Weight: 3, Key: "http://a:80"}, ""},
		{"http://a#weight=5000", Backend{Address: "a:80", Weight: MaxWeight, Key: "http://a:80"}, "weight=5000"},
		{"http://a#weight=0", Backend{Address: "a:80", Weight: 1, Key: "http://a:80"}, "weight=0"},
		{"http://a#color=red&weight=2", Backend{Address: "a:80", Weight: 2, Key: "http://a:80"}, "color=red"},
		{"http://a#sni=b", Backend{Address: "a:80", Weight: 1, Key: "http://a:80"}, ""},
		{"https://a", Backend{Address: "a:443", TLS: true, ServerName: "a", Weight: 1, Key: "https://a:443#sni=a"}, ""},
		{"h2c://a", Backend{Address: "a:80", H2C: true, Weight: 1, Key: "h2c://a:80"}, ""},
		{"H2C://A:50051/x#weight=2", Backend{Address: "a:50051", H2C: true, Weight: 2, Key: "h2c://a:50051"}, ""},
		{"h2c://a#sni=b", Backend{Address: "a:80", H2C: true, Weight: 1, Key: "h2c://a:80"}, ""},
		{"https://[::1]", Backend{Address: "[::1]:443", TLS: true, ServerName: "::1", Weight: 1, Key: "https://[::1]:443#sni=::1"}, ""},
		{
			"https://10.0.0.1:8443#sni=App.example&tlsVerify=off&weight=2",
			Backend{
				Address: "10.0.0.1:8443", TLS: true, ServerName: "app.example", SkipVerify: true, Weight: 2,
				Key: "https://10.0.0.1:8443#sni=app.example&tlsVerify=off",
			},
			"",
		},
	}
	for _, tt := range tests {
		tt.want.URL = tt.element
		got, bad := parseBackend(tt.element, noOwn)
		if got != tt.want || bad != tt.bad {
			t.Errorf("%s:\n got %+v, bad option %q\nwant %+v, bad option %q", tt.element, got, bad, tt.want, tt.bad)
		}
	}
}

func TestParseBackend_Unusable(t *testing.T) {
	t.Parallel()
	own := func(address string) bool { return address == "127.0.0.1:80" }
	for element, want := range map[string]error{
		"":                       errNoBackendHost,
		"http://":                errNoBackendHost,
		"http:///path":           errNoBackendHost,
		"http://:80":             errNoBackendHost,
		"ftp://a":                errBadScheme,
		"http://a b":             errBadBackendHost,
		"http://a\r\nb":          errBadBackendHost,
		"http://ä":               errBadBackendHost,
		"http://[::1":            errBadBackendHost,
		"http://[10.0.0.1]":      errBadBackendHost,
		"::1":                    errNoBackendHost,
		"2001:db8::1":            errBadBackendPort,
		"http://a:":              errBadBackendPort,
		"http://a:0":             errBadBackendPort,
		"http://a:65536":         errBadBackendPort,
		"http://a:http":          errBadBackendPort,
		"http:10.0.0.1:80":       errBadBackendPort,
		"http://[::1]80":         errBadBackendPort,
		"http://127.0.0.1":       errOwnListener,
		"127.0.0.1:80#weight=10": errOwnListener,
	} {
		if b, _ := parseBackend(element, own); !errors.Is(b.Err, want) || b.URL != element {
			t.Errorf("%q: got %v for URL %q, want %v", element, b.Err, b.URL, want)
		}
	}
}

func TestLoggable_HidesUserInformation(t *testing.T) {
	t.Parallel()
	for element, want := range map[string]string{
		"http://10.0.0.1":           "http://10.0.0.1",
		"http://me:hush@10.0.0.1/x": "http://***@10.0.0.1/x",
		"me:hu@sh@10.0.0.1":         "***@10.0.0.1",
		strings.Repeat("a", 1000):   strings.Repeat("a", maxLoggedElement),
	} {
		if got := loggable(element); got != want {
			t.Errorf("%q: got %q, want %q", element, got, want)
		}
	}
}
