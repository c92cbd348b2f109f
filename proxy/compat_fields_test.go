package proxy_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"sluice/internal/backendtest"
	"sluice/proxy"
)

// forwardedNames are all fields that tell an application about its client.
var forwardedNames = []string{
	"X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Port", "Forwarded",
	"X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Prefix",
	"X-Url-Scheme", "Front-End-Https",
}

func TestCompat_ForwardedFields(t *testing.T) {
	t.Parallel()
	var forged []string
	for _, name := range forwardedNames {
		forged = append(forged, name+": forged")
	}
	b := backendtest.Echo(t, "b")
	stranger := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.wrap = peersFrom("203.0.113.9") })
	friend := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.wrap = peersFrom("10.1.2.3") })
	six := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.wrap = peersFrom("2001:db8::7") })
	nobody := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.TrustedProxies, s.TrustedProxiesSet = nil, true })
	own := func(addr string, e *edge) map[string]string {
		return map[string]string{
			"X-Forwarded-For": addr, "X-Real-IP": addr, "X-Forwarded-Proto": "http", "X-Forwarded-Protocol": "http",
			"X-Forwarded-Port": fmt.Sprint(e.port),
		}
	}
	for _, tt := range []struct {
		name   string
		edge   *edge
		fields []string
		want   map[string]string // of forwardedNames; the others must be absent
	}{
		{"stranger sends none", stranger, nil, own("203.0.113.9", stranger)},
		{"stranger forges all", stranger, forged, own("203.0.113.9", stranger)},
		{"stranger has ipv6", six, forged, own("2001:db8::7", six)},
		{"nobody is trusted", nobody, forged, own("127.0.0.1", nobody)},
		{"friend sends none", friend, nil, own("10.1.2.3", friend)},
		{
			"friend sends some", friend,
			[]string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: www"},
			map[string]string{
				"X-Forwarded-For": "198.51.100.1, 10.1.2.3", "X-Real-IP": "10.1.2.3", "X-Forwarded-Proto": "https",
				"X-Forwarded-Protocol": "http", "X-Forwarded-Port": fmt.Sprint(friend.port), "X-Forwarded-Host": "www",
			},
		},
	} {
		q := tt.edge.get("a.example", tt.fields...).echoed(t)
		for _, name := range forwardedNames {
			var want []string
			if v, ok := tt.want[name]; ok {
				want = []string{v}
			}
			if got := q.Values(name); !slices.Equal(got, want) {
				t.Errorf("%s: %s reached the backend as %q, want %q", tt.name, name, got, want)
			}
		}
	}
}

// Spellings with _ that CGI-like environments take for a forwarding or framing field never pass, from nobody.
func TestCompat_LookalikeFieldsAreDropped(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	names := []string{"X_Forwarded_For", "X-Forwarded_Proto", "x_forwarded_host", "Content_Length", "Transfer_Encoding", "Front_End_Https"}
	var fields []string
	for _, name := range names {
		fields = append(fields, name+": 5")
	}
	q := e.get("a.example", append(fields, "X_Plain: 1")...).echoed(t)
	for _, name := range names {
		if got := q.Values(name); len(got) > 0 {
			t.Errorf("%s reached the backend: %q", name, got)
		}
	}
	if got := q.Value("X_Plain"); got != "1" {
		t.Errorf("X_Plain reached the backend as %q", got)
	}
	if got := e.metric(`sluice_fields_dropped_total{reason="lookalike"}`); got != float64(len(names)) {
		t.Errorf("%v dropped fields counted, want %d", got, len(names))
	}
}

// debugFields are what Hipache adds to an answer on request.
var debugFields = []string{
	"X-Debug-Version-Hipache", "X-Debug-Backend-Url", "X-Debug-Backend-Id", "X-Debug-Vhost", "X-Debug-Frontend-Key",
	"X-Debug-Time-Total", "X-Debug-Time-Backend",
}

func TestCompat_DebugHeaders(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"*.a.example": {"my site", b.URL()}})
	for _, field := range []string{"X-Debug: true", "X-Debug:", "x-debug: 0", "X-Debug-Router: 1"} {
		a := e.get("www.a.example", field)
		for name, want := range map[string]string{
			"X-Debug-Version-Hipache": "1.2.3", "X-Debug-Backend-Url": b.URL(), "X-Debug-Backend-Id": "0",
			"X-Debug-Vhost": "my site", "X-Debug-Frontend-Key": "www.a.example",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", field, name, got, want)
			}
		}
		for _, name := range []string{"X-Debug-Time-Total", "X-Debug-Time-Backend"} {
			if !regexp.MustCompile(`^\d+$`).MatchString(a.Header.Get(name)) {
				t.Errorf("%s: %s is %q, want milliseconds", field, name, a.Header.Get(name))
			}
		}
		if got := a.echoed(t).Value("X-Debug-Router"); got != "" {
			t.Errorf("X-Debug-Router reached the backend: %q", got)
		}
	}
	a := e.get("www.a.example", "X-Debug-Router:")
	if got := a.Header.Get("X-Debug-Backend-Url"); got != "" {
		t.Errorf("an empty X-Debug-Router brought %q", got)
	}
	a = e.get("unknown.example", "X-Debug: 1")
	if got := a.Header.Get("X-Debug-Error"); got != "frontend not found" || a.Header.Get("X-Debug-Version-Hipache") != "1.2.3" {
		t.Errorf("error answer: X-Debug-Error %q, version %q", got, a.Header.Get("X-Debug-Version-Hipache"))
	}
}

// Debug headers name backends: strangers don't get them, and private ranges count only when the operator chose them.
func TestCompat_DebugHeadersOnlyForTheTrusted(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	for _, tt := range []struct {
		name, peer string
		set        bool
		allow      proxy.DebugHeaders
		want       bool
	}{
		{"stranger", "203.0.113.9", true, proxy.DebugTrusted, false},
		{"private by default", "10.0.0.1", false, proxy.DebugTrusted, false},
		{"private by choice", "10.0.0.1", true, proxy.DebugTrusted, true},
		{"loopback", "127.0.0.1", false, proxy.DebugTrusted, true},
		{"all", "203.0.113.9", false, proxy.DebugAll, true},
		{"none", "127.0.0.1", true, proxy.DebugNone, false},
	} {
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) {
			s.wrap, s.TrustedProxiesSet, s.DebugHeaders = peersFrom(tt.peer), tt.set, tt.allow
		})
		for _, host := range []string{"a.example", "unknown.example"} {
			a := e.get(host, "X-Debug: 1")
			var got []string
			for _, name := range append([]string{"X-Debug-Error"}, debugFields...) {
				if a.Header.Get(name) != "" {
					got = append(got, name)
				}
			}
			if (len(got) > 0) != tt.want {
				t.Errorf("%s, %s: got %q, want some: %v", tt.name, host, got, tt.want)
			}
		}
	}
}

// A port in use: the forwarded port is the listener's, never the Host's.
func TestCompat_ForwardedPortIsTheListeners(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.wrap = peersFrom("203.0.113.9") })
	if got := e.get("a.example:9999").echoed(t).Value("X-Forwarded-Port"); got != fmt.Sprint(e.port) {
		t.Errorf("X-Forwarded-Port %q, want %d", got, e.port)
	}
}
