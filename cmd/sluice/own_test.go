package main

import (
	"net"
	"net/http"
	"net/netip"
	"testing"

	"sluice/internal/config"
	"sluice/internal/redistest"
)

func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	own := ownAddresses{
		listening: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:81"),
		},
		local: []netip.Addr{netip.MustParseAddr("10.0.0.7")},
	}
	tests := map[string]bool{
		"127.0.0.1:8080":          true,
		"[::ffff:127.0.0.1]:8080": true,
		"localhost:8080":          true,
		"0.0.0.0:8080":            true,
		"127.0.0.2:8080":          false,
		"127.0.0.1:8081":          false,
		"10.0.0.7:80":             true,
		"127.0.0.9:80":            true,
		"10.0.0.8:80":             false,
		"[::1]:81":                true,
		"example.com:80":          false,
		"no port":                 false,
		"10.0.0.7:http":           false,
	}
	for address, want := range tests {
		if got := own.contains(address); got != want {
			t.Errorf("contains(%q) = %v, want %v", address, got, want)
		}
	}
}

func TestNewOwnAddresses(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if own := newOwnAddresses([]net.Listener{ln}); !own.contains(ln.Addr().String()) {
		t.Errorf("%s is not known as our own", ln.Addr())
	}
}

func TestListenNetwork(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		address, other string
		want           string
	}{
		"IPv4":                {"127.0.0.1", "", "tcp4"},
		"every IPv4":          {"0.0.0.0", "", "tcp4"},
		"IPv6":                {"::1", "", "tcp6"},
		"every address":       {"::", "", "tcp"},
		"beside an IPv4":      {"::", "0.0.0.0", "tcp6"},
		"name":                {"localhost", "", "tcp"},
		"nothing":             {"", "", "tcp"},
		"every, beside an IP": {"::", "10.0.0.1", "tcp6"},
	}
	for name, tt := range tests {
		b := config.Bind{Address: tt.address, Port: 80}
		all := []config.Bind{b, {Address: tt.other, Port: 80}}
		if got := listenNetwork(b, all); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// A route that names one of our own listeners would be a loop, or open the admin pages to the world.
func TestProcess_OwnListenersAreNoBackends(t *testing.T) {
	t.Parallel()
	store := redistest.Start(t)
	p := launch(t, "--driver="+store.URL(), "--server-access-log=none")
	store.Do("RPUSH", "frontend:loop.example", "loop", p.base)
	store.Do("RPUSH", "frontend:admin.example", "admin", p.admin)
	for _, host := range []string{"loop.example", "admin.example"} {
		a := p.awaitStatus(host, http.StatusBadGateway)
		if cause := a.header.Get("X-Sluice-Error"); cause != "backend_invalid" {
			t.Errorf("%s: cause %q", host, cause)
		}
	}
}
