package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

// believed are the fields that tell an application about its client, each with a forged value.
var believed = []string{
	"X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Protocol: https",
	"X-Forwarded-Port: 443", "Forwarded: for=6.6.6.6;proto=https", "X-Forwarded-Host: evil", "X-Forwarded-Server: evil",
	"X-Forwarded-Ssl: on", "X-Forwarded-Scheme: https", "X-Forwarded-Prefix: /evil", "X-Url-Scheme: https",
	"Front-End-Https: on",
}

const toHost = "GET / HTTP/1.1\r\nHost: h\r\n"

func TestForwarded_FromAnybody(t *testing.T) {
	t.Parallel()
	for _, field := range believed {
		name, value, _ := strings.Cut(field, ": ")
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			x := newExchange(t, toHost+"A: 1\r\n"+spelling+": "+value+"\r\n"+spelling+": again\r\n\r\n", false)
			checkForwarded(t, x, toHost+"A: 1\r\n"+forwarding+"\r\n")
			if got := x.srv.metrics.droppedForwarding.Get(); got != 2 {
				t.Errorf("%s: %d dropped fields counted, want 2", spelling, got)
			}
		}
	}
}

func TestForwarded_FromTrusted(t *testing.T) {
	t.Parallel()
	f := func(name, fields, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t, toHost+fields+"\r\n", true)
			checkForwarded(t, x, toHost+want+"\r\n")
			if got := x.srv.metrics.droppedForwarding.Get(); got != 0 {
				t.Errorf("%d dropped fields counted", got)
			}
		})
	}
	const (
		realIP   = "X-Real-IP: 192.0.2.7\r\n"
		proto    = "X-Forwarded-Proto: http\r\n"
		protocol = "X-Forwarded-Protocol: http\r\n"
		port     = "X-Forwarded-Port: 8080\r\n"
		all      = realIP + proto + protocol + port
	)
	f("nothing set", "", forwarding)
	f("all set", strings.Join(believed, "\r\n")+"\r\n",
		strings.Replace(strings.Join(believed, "\r\n")+"\r\n", "6.6.6.6\r\n", "6.6.6.6, 192.0.2.7\r\n", 1))
	f("appended", "X-Forwarded-For: 1.1.1.1\r\n", "X-Forwarded-For: 1.1.1.1, 192.0.2.7\r\n"+all)
	f("appended to a list", "x-forwarded-for:a,b , c \r\n", "X-Forwarded-For: a,b , c, 192.0.2.7\r\n"+all)
	f("appended to an empty one", "X-Forwarded-For: \r\n", "X-Forwarded-For: 192.0.2.7\r\n"+all)
	f("appended to the last of several lines", "X-Forwarded-For: a\r\nB: 1\r\nX-Forwarded-For: b\r\nX-Forwarded-For: c\r\nD: 2\r\n",
		"X-Forwarded-For: a\r\nB: 1\r\nX-Forwarded-For: b\r\nX-Forwarded-For: c, 192.0.2.7\r\nD: 2\r\n"+all)
	f("appended to a last empty line", "X-Forwarded-For: a\r\nX-Forwarded-For:\r\n",
		"X-Forwarded-For: a\r\nX-Forwarded-For: 192.0.2.7\r\n"+all)
	f("scheme kept", "x-forwarded-proto: https\r\n",
		"x-forwarded-proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n"+realIP+protocol+port)
	f("address kept", "X-Real-IP: 1.1.1.1\r\n",
		"X-Real-IP: 1.1.1.1\r\nX-Forwarded-For: 192.0.2.7\r\n"+proto+protocol+port)
	f("others kept", "Forwarded: for=a\r\nX-Forwarded-Host: b\r\n", "Forwarded: for=a\r\nX-Forwarded-Host: b\r\n"+forwarding)
}

func TestPeerInfo(t *testing.T) {
	t.Parallel()
	f := func(addr, proto string, port int, want string) {
		t.Helper()
		x := newExchange(t, toHost+"\r\n", false)
		peer := newPeerInfo(netip.MustParseAddr(addr), false, proto, port)
		x.peer = &peer
		got := string(x.appendForwarded(nil))
		if got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	f("::ffff:192.0.2.9", "https", 8443, "X-Forwarded-For: 192.0.2.9\r\nX-Real-IP: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n"+
		"X-Forwarded-Protocol: https\r\nX-Forwarded-Port: 8443\r\n")
	f("fe80::1%eth0", "http", 80, "X-Forwarded-For: fe80::1\r\nX-Real-IP: fe80::1\r\nX-Forwarded-Proto: http\r\n"+
		"X-Forwarded-Protocol: http\r\nX-Forwarded-Port: 80\r\n")
}

func TestRequest_Loops(t *testing.T) {
	t.Parallel()
	f := func(name string, lines []string, want bool) {
		t.Helper()
		var fields strings.Builder
		for _, line := range lines {
			fields.WriteString("X-Forwarded-For: " + line + "\r\n")
		}
		if got := mustJudge(t, toHost+fields.String()+"\r\n").loops(); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	list := func(n int) string { return strings.TrimSuffix(strings.Repeat("10.0.0.1, ", n), ", ") }
	f("none", nil, false)
	f("empty lines", make([]string, 40), false)
	f("20 in a line", []string{list(20)}, false)
	f("21 in a line", []string{list(21)}, true)
	f("20 lines", strings.Split(list(20), ", "), false)
	f("21 lines", strings.Split(list(21), ", "), true)
	f("10 and 10", []string{list(10), "", list(10)}, false)
	f("10 and 11", []string{list(10), list(11)}, true)
}

func TestExchange_ClientAddr(t *testing.T) {
	t.Parallel()
	f := func(fields, trusted, untrusted string) {
		t.Helper()
		for _, c := range []struct {
			trusted bool
			want    string
		}{{true, trusted}, {false, untrusted}} {
			if got := newExchange(t, toHost+fields+"\r\n", c.trusted).clientAddr(); got != netip.MustParseAddr(c.want) {
				t.Errorf("%q, trusted %v: got %v, want %v", fields, c.trusted, got, c.want)
			}
		}
	}
	const peer = "192.0.2.7"
	f("", peer, peer)
	f("X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1", peer)
	f("X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n", "2.2.2.2", peer)
	f("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 3.3.3.3 ,\t4.4.4.4\r\n", "4.4.4.4", peer)
	f("X-Forwarded-For: 1.1.1.1:1234\r\n", "1.1.1.1", peer)
	f("X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1", peer)
	f("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1", peer)
	f("X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1", peer)
	f("X-Forwarded-For: fe80::1%eth0\r\n", "fe80::1", peer)
	f("X-Forwarded-For: 1.1.1.1, unknown\r\n", peer, peer)
	f("X-Forwarded-For: 1.1.1.1,\r\n", peer, peer)
	f("X-Forwarded-For: \r\n", peer, peer)
	f("X-Forwarded-For: "+strings.Repeat("9", 5000)+"\r\n", peer, peer)
}
