package proxy_test

import (
	"net/netip"
	"testing"

	"sluice/internal/backendtest"
	"sluice/proxy"
)

// TestReload_TrustOfOpenConnections: who is withdrawn from trustedProxies must not go on forging
// through a connection that was open before.
func TestReload_TrustOfOpenConnections(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	e := newEdge(t, one("www.example.com", backend.URL()))
	c := e.dial()
	proto := func() string {
		t.Helper()
		return c.do("GET", "/", "www.example.com", "X-Forwarded-Proto: https").echoed(t).Value("X-Forwarded-Proto")
	}
	if got := proto(); got != "https" {
		t.Fatalf("X-Forwarded-Proto of a trusted peer arrives as %q", got)
	}
	for _, tt := range []struct {
		trusted []netip.Prefix
		want    string
	}{
		{nil, "http"},
		{proxy.DefaultTrustedProxies(), "https"},
	} {
		cfg := e.config
		cfg.TrustedProxies = tt.trusted
		if err := e.server.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if got := proto(); got != tt.want {
			t.Errorf("with trustedProxies %v on an open connection: X-Forwarded-Proto %q, want %q", tt.trusted, got, tt.want)
		}
	}
}
