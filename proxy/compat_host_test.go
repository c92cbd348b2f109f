package proxy_test

import (
	"strings"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

// Host forms: case, port, trailing dot and IPv6 literals lead to the same frontend; the backend gets what the client sent.
func TestCompat_HostIsNormalisedForLookupOnly(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"www.example": {"www", b.URL()}, "[::1]": {"six", b.URL()}})
	for _, host := range []string{
		"www.example", "WWW.Example", "www.example:8080", "www.example.", "WWW.EXAMPLE.:1", "[::1]", "[::1]:80",
	} {
		if got := e.get(host).echoed(t).Value("Host"); got != host {
			t.Errorf("Host %q reached the backend as %q", host, got)
		}
	}
}

// A missing Host and a host that cannot be a key are refused before any lookup.
func TestCompat_BadHosts(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"*": {"all", b.URL()}})
	for _, host := range []string{"*", "a;b", "a%2eb", "a b", "user@a", "a/b", strings.Repeat("a.", 130) + "b", "[::1", "a:b:c"} {
		a := e.get(host)
		if a.StatusCode != 400 || a.cause() != "bad_host" && a.cause() != "bad_request" {
			t.Errorf("Host %q: %d %q, want 400 bad_host", host, a.StatusCode, a.cause())
		}
	}
	c := e.dial()
	c.send("GET / HTTP/1.1\r\n\r\n")
	wantStatus(t, c.answer("GET"), 400, "no_host")
	if n := b.Requests(); n != 0 {
		t.Errorf("%d requests reached the catch-all", n)
	}
}

// The first list that is not empty wins, dead or not; wildcards go by the longest suffix, then comes the catch-all.
func TestCompat_FirstListWins(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	wild, exact := backendtest.Echo(t, "wild"), backendtest.Echo(t, "exact")
	redis.Do("RPUSH", "frontend:*.app.example", "wild", wild.URL())
	redis.Do("RPUSH", "frontend:big.app.example", "exact", exact.URL())
	redis.Do("RPUSH", "frontend:dead.app.example", "dead", exact.URL(), exact.URL())
	redis.Do("SADD", "dead:dead.app.example", "0", "1")
	redis.Do("RPUSH", "frontend:empty.app.example", "only the identifier")
	e := newEdge(t, nil, func(s *setup) { s.cache.Driver = []string{redis.URL()} })
	for host, want := range map[string]string{
		"a.app.example": "wild", "a.b.app.example": "wild", "big.app.example": "exact", "a.big.app.example": "wild",
	} {
		if got := e.get(host).Header.Get("X-Backend"); got != want {
			t.Errorf("%s went to %q, want %q", host, got, want)
		}
	}
	wantStatus(t, e.get("app.example"), 400, "unknown_host")
	wantStatus(t, e.get("dead.app.example"), 502, "no_backend")
	wantStatus(t, e.get("empty.app.example"), 502, "no_backend")
}

// planb looks frontend:<host:port> up first, Hipache never.
func TestCompat_PlanbLooksUpThePort(t *testing.T) {
	t.Parallel()
	plain, port := backendtest.Echo(t, "plain"), backendtest.Echo(t, "port")
	routes := routeList{"a.example": {"plain", plain.URL()}, "a.example:8080": {"port", port.URL()}}
	for _, tt := range []struct {
		name string
		edge *edge
		want map[string]string
	}{
		{"hipache", newEdge(t, routes), map[string]string{"a.example:8080": "plain", "a.example": "plain"}},
		{"planb", newEdge(t, routes, planb), map[string]string{
			"a.example:8080": "port", "A.example:8080": "port", "a.example:81": "plain", "a.example": "plain",
		}},
	} {
		for host, want := range tt.want {
			if got := tt.edge.get(host).Header.Get("X-Backend"); got != want {
				t.Errorf("%s: %s went to %q, want %q", tt.name, host, got, want)
			}
		}
	}
}

// Scheme, path and userinfo of a backend's URL are ignored, as are fragments by Hipache; a bare host:port is http.
func TestCompat_BackendElementForms(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{
		"bare.example": {"x", b.Addr()},
		"path.example": {"x", b.URL() + "/base/path?q"},
		"user.example": {"x", "http://user:secret@" + b.Addr()},
		"frag.example": {"x", b.URL() + "#weight=3"},
		"ws.example":   {"x", b.URL() + "/"},
	})
	for _, host := range []string{"bare.example", "path.example", "user.example", "frag.example", "ws.example"} {
		q := e.do("GET", "/asked?for=this", host).echoed(t)
		if q.Target != "/asked?for=this" || q.Value("Host") != host || q.Value("Authorization") != "" {
			t.Errorf("%s: backend got %s with Host %q and Authorization %q",
				host, q.Target, q.Value("Host"), q.Value("Authorization"))
		}
	}
}

// A backend that is one of our own listeners would be asked for ever; it is refused when its list is read.
func TestCompat_OwnListenerIsNoBackend(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) {
		s.cache.Own = func(address string) bool { return address == b.Addr() }
	})
	wantStatus(t, e.get("a.example"), 502, "backend_invalid")
	if n := b.Connects(); n != 0 {
		t.Errorf("%d connections to it", n)
	}
}
