package main

import (
	"fmt"
	"slices"
	"strings"
)

// Sizes of the answers and of the posted body.
const (
	smallBytes = 128 // about 280 on the wire, with the head
	tenKBytes  = 10 << 10
	oneMBytes  = 1 << 20
	postBytes  = 1 << 10
)

// work is one kind of request that is sent over and over, and what sluice is given for it.
type work struct {
	name      string
	title     string
	path      string
	answer    int  // bytes of the answer's body
	post      int  // bytes of the request's body; 0 = GET
	tls       bool // client side only
	closes    bool // each request on a connection of its own
	webSocket bool // messages that are echoed, over tunnels
	hosts     int  // how many names are asked for, at random
	idle      int  // connections that do nothing meanwhile
	changes   int  // routes that change each second meanwhile
	logged    bool // an access log is little of it: nginx takes part with its log only
	// Only the scenarios growth and memory set these.
	backends []string // of every host; none = the site's
	env      []string // of sluice
	unknown  int      // cache.maxUnknownHosts of sluice; 0 = its default
	clients  int      // connections that share steadyRate requests a second; 0 = the flag's, as fast as they can
	again    bool     // warms up before each measurement: what it needs does not keep
}

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
	{name: "post", title: "1 KiB POST", path: "/small", answer: smallBytes, post: postBytes, hosts: 1},
	{name: "tls", title: "small GET, TLS 1.3", path: "/small", answer: smallBytes, tls: true, hosts: 1},
	{
		name: "close", title: "small GET, a new connection each", path: "/small", answer: smallBytes, closes: true,
		hosts: 1, logged: true,
	},
	{name: "hosts", title: "small GET, 100 000 hosts", path: "/small", answer: smallBytes, hosts: manyHosts, logged: true},
	{
		name: "hosts-1m", title: "small GET, 1 000 000 hosts", path: "/small", answer: smallBytes, hosts: mostHosts,
		logged: true,
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
	}
	return list
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
	if w.hosts > 1 {
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
