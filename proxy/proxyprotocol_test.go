package proxy_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// version2 is a PROXY header of version 2 for TCP over IPv4, or LOCAL.
func version2(command byte, src string) string {
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	if command == 0 {
		return signature + "\x20\x00\x00\x00"
	}
	addr := []byte{203, 0, 113, 9, 127, 0, 0, 1}
	if src != "" {
		copy(addr, src)
	}
	addr = binary.BigEndian.AppendUint16(addr, 5555)
	addr = binary.BigEndian.AppendUint16(addr, 80)
	return signature + "\x21\x11\x00\x0c" + string(addr)
}

func announced(s *setup) { s.bind.ProxyProtocol = true }

// A load balancer's PROXY header names the client, in both versions, for everything that depends on it.
func TestProxyProtocol_NamesTheClient(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), announced)
	for i, tt := range []struct{ name, header, client string }{
		{"version 1", "PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n", "203.0.113.9"},
		{"version 1, ipv6", "PROXY TCP6 2001:db8::9 ::1 5555 80\r\n", "2001:db8::9"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"version 2", version2(1, ""), "203.0.113.9"},
		{"version 2, local", version2(0, ""), "127.0.0.1"},
	} {
		c := e.dial()
		c.send(tt.header + request("GET", "/", "a.example"))
		if got := c.answer("GET").echoed(t).Value("X-Forwarded-For"); got != tt.client {
			t.Errorf("%s: X-Forwarded-For %q, want %q", tt.name, got, tt.client)
		}
		c.wantAlive("a.example") // The header comes once.
		want := tt.client
		if !strings.Contains(want, ":") {
			want = "::ffff:" + want
		}
		if line := e.awaitLog(2*i + 2)[2*i+1]; !strings.HasPrefix(line, want+" ") {
			t.Errorf("%s: log line %q, want client %s", tt.name, line, want)
		}
	}
}

// The client that a PROXY header names is a stranger, whoever announces it: its forwarding fields are dropped.
func TestProxyProtocol_ClientIsNotTrusted(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), announced)
	c := e.dial()
	c.send("PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n" + request("GET", "/", "a.example", "X-Forwarded-Proto: https", "X-Debug: 1"))
	a := c.answer("GET")
	if got := a.echoed(t).Value("X-Forwarded-Proto"); got != "http" {
		t.Errorf("X-Forwarded-Proto %q, want ours", got)
	}
	if got := a.Header.Get("X-Debug-Backend-Url"); got != "" {
		t.Errorf("a stranger got debug headers: %q", got)
	}
}

// A header that is none, or never comes, ends the connection without an answer and is counted.
func TestProxyProtocol_Malformed(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, announced, func(s *setup) { s.HeaderTimeout = 300 * time.Millisecond })
	bad := []string{
		request("GET", "/", "__ping__"),
		"PROXY TCP4 nonsense\r\n" + request("GET", "/", "__ping__"),
		"PROXY TCP4 203.0.113.9 127.0.0.1 5555 80" + strings.Repeat(" ", 200) + "\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x02ab",
		"PROXY ",
	}
	for _, header := range bad {
		c := e.dial()
		c.send(header)
		c.wantEnd()
	}
	e.awaitMetric("sluice_proxy_header_errors_total", float64(len(bad)))
	e.awaitMetric("sluice_connections", 0)
}

// A peer that nobody vouches for is a client: its PROXY header is a bad request, and without one it is served.
func TestProxyProtocol_UntrustedPeer(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), announced, func(s *setup) { s.wrap = peersFrom("10.0.0.9") })
	c := e.dial()
	c.send("PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n" + request("GET", "/", "a.example"))
	wantStatus(t, c.answer("GET"), 400, "bad_request")
	if got := e.get("a.example").echoed(t).Value("X-Real-IP"); got != "10.0.0.9" {
		t.Errorf("X-Real-IP %q, want the peer", got)
	}
	chosen := newEdge(t, one("a.example", b.URL()), announced, func(s *setup) {
		s.wrap, s.TrustedProxiesSet = peersFrom("10.0.0.9"), true
	})
	c = chosen.dial()
	c.send("PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n" + request("GET", "/", "a.example"))
	if got := c.answer("GET").echoed(t).Value("X-Real-IP"); got != "203.0.113.9" {
		t.Errorf("X-Real-IP %q, want the client that a chosen proxy names", got)
	}
}

// Limits per address count the client, not the load balancer.
func TestProxyProtocol_CountsTheClient(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, announced, func(s *setup) { s.MaxConnectionsPerIP = 1 })
	header := func(n string) string { return "PROXY TCP4 203.0.113." + n + " 127.0.0.1 5555 80\r\n" }
	first := e.dial()
	first.send(header("1") + request("GET", "/", "__ping__"))
	first.answer("GET")
	second := e.dial()
	second.send(header("1") + request("GET", "/", "__ping__"))
	second.wantEnd()
	third := e.dial()
	third.send(header("2") + request("GET", "/", "__ping__"))
	if a := third.answer("GET"); a.StatusCode != 200 {
		t.Errorf("another client behind the same load balancer: %d", a.StatusCode)
	}
}
