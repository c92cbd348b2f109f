package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Sizes of the answers and of the posted body.
const (
	smallBytes = 128 // about 280 on the wire, with the head
	tenKBytes  = 10 << 10
	oneMBytes  = 1 << 20
	tenMBytes  = 10 << 20
	postBytes  = 1 << 10
)

// work is one kind of request that is sent over and over, and what sluice is given for it.
type work struct {
	name       string
	title      string
	path       string
	answer     int  // bytes of the answer's body
	post       int  // bytes of the request's body; 0 = GET
	tls        bool // client side only
	http2      bool // client side only, over TLS: h2Streams on each connection
	handshakes bool // connections that do nothing but the handshake of TLS
	closes     bool // each request on a connection of its own
	few        int  // client connections; 0 = the flag's
	webSocket  bool // messages that are echoed, over tunnels
	hosts      int  // how many names are asked for, at random
	drawn      bool // the name is drawn for each request even if there is only one
	besideOne  bool // everyone takes part with one name, too
	idle       int  // connections that do nothing meanwhile
	changes    int  // routes that change each second meanwhile
	logged     bool // an access log is little of it: nginx takes part with its log only
	// Only the scenarios growth and memory set these.
	backends []string // of every host; none = the site's
	env      []string // of sluice
	unknown  int      // cache.maxUnknownHosts of sluice; 0 = its default
	clients  int      // connections that share steadyRate requests a second; 0 = the flag's, as fast as they can
	again    bool     // warms up before each measurement: what it needs does not keep
}

// fewConnections are enough for the largest answers. With many of them most answers of a short
// measurement would be under way at its end, uncounted.
const fewConnections = 8

// Hosts and idle connections of those kinds of work that are about them.
const (
	manyHosts   = 100_000
	mostHosts   = 1_000_000
	churnHosts  = 10_000
	churnRate   = 1000
	idleWanted  = 10_000
	idleOverTLS = 2000
)

// works lists every kind of work.
var works = []work{
	{name: "small", title: "small GET, keep-alive", path: "/small", answer: smallBytes, hosts: 1},
	{name: "10k", title: "10 KiB answers", path: "/10k", answer: tenKBytes, hosts: 1},
	{name: "1m", title: "1 MiB answers", path: "/1m", answer: oneMBytes, hosts: 1, logged: true},
	{
		name: "10m", title: "10 MiB answers", path: "/10m", answer: tenMBytes, hosts: 1, few: fewConnections, logged: true,
	},
	{name: "post", title: "1 KiB POST", path: "/small", answer: smallBytes, post: postBytes, hosts: 1},
	{name: "tls", title: "small GET, TLS 1.3", path: "/small", answer: smallBytes, tls: true, hosts: 1},
	{
		name: "h2", title: fmt.Sprintf("small GET, HTTP/2, %d connections × %d streams", h2Connections, h2Streams),
		path: "/small", answer: smallBytes, http2: true, hosts: 1, few: h2Connections, logged: true,
	},
	{
		name: "close", title: "small GET, a new connection each", path: "/small", answer: smallBytes, closes: true,
		hosts: 1, logged: true,
	},
	{
		name: "handshake", title: "full TLS 1.3 handshake, P-256, X25519", path: "/small", answer: smallBytes,
		handshakes: true, hosts: 1, logged: true,
	},
	{
		name: "hosts", title: "small GET, 100 000 hosts", path: "/small", answer: smallBytes, hosts: manyHosts,
		besideOne: true, logged: true,
	},
	{
		name: "hosts-1m", title: "small GET, 1 000 000 hosts", path: "/small", answer: smallBytes, hosts: mostHosts,
		besideOne: true, logged: true,
	},
	{
		name: "churn", title: "small GET, 1 000 of 10 000 routes change each second", path: "/small",
		answer: smallBytes, hosts: churnHosts, changes: churnRate,
	},
	{
		name: "idle", title: "small GET beside idle connections", path: "/small", answer: smallBytes,
		hosts: 1, idle: idleWanted, logged: true,
	},
	{
		name: "idle-tls", title: "small GET, TLS 1.3, beside idle connections", path: "/small",
		answer: smallBytes, hosts: 1, tls: true, idle: idleOverTLS, logged: true,
	},
	{
		name: "websocket", title: "WebSocket messages echoed", path: "/small", answer: smallBytes, hosts: 1,
		webSocket: true, logged: true,
	},
}

func workNames() []string {
	names := make([]string, len(works))
	for i, w := range works {
		names[i] = w.name
	}
	return names
}

// workNamed returns the kind of work of that name; it must exist.
func workNamed(name string) work {
	i := slices.IndexFunc(works, func(w work) bool { return w.name == name })
	if i < 0 {
		panic("BUG: no work is named " + name)
	}
	return works[i]
}

// worksOf returns the kinds of work that o names, in its order.
func worksOf(o *options) []work {
	list := make([]work, len(o.work))
	for i, name := range o.work {
		list[i] = workNamed(name)
		if o.short {
			list[i] = list[i].inShort()
		}
	}
	return list
}

// contestants are those of o that can do the work. nginx without its log is left out unmentioned where
// it would show the same as with it, at the price of another quarter of the time.
func (w work) contestants(o *options) (names, leftOut []string) {
	for _, name := range o.contestants {
		switch {
		case w.changes > 0 && name != "sluice" && name != "base":
			leftOut = append(leftOut, name)
		case w.logged && name == "nginx" && slices.Contains(o.contestants, "nginx+log"):
		default:
			names = append(names, name)
		}
	}
	return names, leftOut
}

// connections is how many clients send it.
func (w work) connections(o *options) int {
	if w.few > 0 {
		return w.few
	}
	return o.connections
}

// encrypted reports whether clients speak TLS.
func (w work) encrypted() bool { return w.tls || w.http2 || w.handshakes }

// unlogged reports whether no line need be in an access log after a measurement: that of a tunnel
// comes when it ends, and a handshake is no request.
func (w work) unlogged() bool { return w.webSocket || w.handshakes }

// readyTimeout bounds the time from a contestant's start to its first answer; a million names take a
// while to read.
func (w work) readyTimeout() time.Duration {
	return readyTimeout + time.Duration(w.hosts)*readyPerHost
}

// shortHostsShare is what part of the names the short form routes.
const shortHostsShare = 100

// inShort is the work in the short form.
func (w work) inShort() work {
	if w.hosts > 1 {
		w.hosts = max(w.hosts/shortHostsShare, 2)
	}
	return w
}

// backendURLs are where sluice sends the work.
func (s *site) backendURLs(w work) []string {
	if len(w.backends) > 0 {
		return w.backends
	}
	return []string{localURL(s.backendPort(w))}
}

// backendPort is the port of the backend that does this work.
func (s *site) backendPort(w work) int {
	if w.webSocket {
		return s.echoPort
	}
	return s.backends[0]
}

// hostName is the i-th name that a contestant routes. The first one is what single-host work asks
// for.
func hostName(i int) string {
	return fmt.Sprintf("h%d.load.test", i)
}

// script is the Lua program that makes wrk send this work, to names at random.
func (w work) script() string {
	return w.scriptWith(fmt.Sprintf("math.random(0, %d)", w.hosts-1))
}

// scriptInOrder is the same for names one after the other, from first on.
func (w work) scriptInOrder(first int) string {
	return w.scriptWith(fmt.Sprintf("(count + %d) %% %d", first, w.hosts))
}

// scriptWith takes the Lua expression for the number of the name.
func (w work) scriptWith(name string) string {
	var b strings.Builder
	if w.closes {
		b.WriteString("wrk.headers[\"Connection\"] = \"close\"\n")
	}
	if w.post > 0 {
		fmt.Fprintf(&b, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", w.post)
	}
	if w.hosts > 1 || w.drawn {
		// The text is put together by hand because wrk.format would be the slowest part of the whole measurement.
		fmt.Fprintf(&b, `local count = -1
local head, rest = "GET %s HTTP/1.1\r\nHost: h", ".load.test\r\n\r\n"
function request()
  count = count + 1
  return head .. %s .. rest
end
`, w.path, name)
	} else {
		fmt.Fprintf(&b, "wrk.headers[\"Host\"] = %q\n", hostName(0))
	}
	b.WriteString(reportScript)
	return b.String()
}
