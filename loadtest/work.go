package main

import (
	"fmt"
	"strings"
	"time"
)

// Sizes of the answers and of the posted body.
const (
	smallBytes = 128 // about 280 on the wire, with the head
	tenKBytes  = 10 << 10
	oneMBytes  = 1 << 20
	postBytes  = 1 << 10
)

// work is one kind of request that is sent over and over.
type work struct {
	name   string
	title  string
	path   string
	answer int  // bytes of the answer's body
	post   int  // bytes of the request's body; 0 = GET
	tls    bool // client side only
	closes bool // each request on a connection of its own
	hosts  int  // how many names are asked for, at random
}

// works lists every kind of work; the one named hosts gets its number from the flag.
var works = []work{
	{name: "small", title: "small GET, keep-alive", path: "/small", answer: smallBytes, hosts: 1},
	{name: "10k", title: "10 KiB answers, keep-alive", path: "/10k", answer: tenKBytes, hosts: 1},
	{name: "post", title: "1 KiB POST, keep-alive", path: "/small", answer: smallBytes, post: postBytes, hosts: 1},
	{name: "1m", title: "1 MiB answers, keep-alive", path: "/1m", answer: oneMBytes, hosts: 1},
	{name: "tls", title: "small GET, TLS 1.3 keep-alive", path: "/small", answer: smallBytes, tls: true, hosts: 1},
	{name: "conn", title: "small GET, new connections", path: "/small", answer: smallBytes, closes: true, hosts: 1},
	{name: "hosts", title: "small GET, keep-alive, many hosts", path: "/small", answer: smallBytes},
}

func workNames() []string {
	names := make([]string, len(works))
	for i, w := range works {
		names[i] = w.name
	}
	return names
}

// worksOf returns the kinds of work that o names, in its order.
func worksOf(o options) []work {
	var list []work
	for _, name := range o.work {
		for _, w := range works {
			if w.name != name {
				continue
			}
			if w.hosts == 0 {
				w.hosts = o.hosts
				w.title += fmt.Sprintf(" (%d)", o.hosts)
			}
			list = append(list, w)
		}
	}
	return list
}

// hostName is the i-th name that a contestant routes. The first one is what single-host work asks
// for.
func hostName(i int) string {
	return fmt.Sprintf("h%d.load.test", i)
}

// warmUp is how long a contestant gets work before it is measured: connections are made, and
// every name is asked for at least once where there are many.
func (w work) warmUp() time.Duration {
	const lookupsPerSecond = 15_000 // a cautious guess at what any contestant manages
	return time.Second * time.Duration(1+w.hosts/lookupsPerSecond)
}

// script is the Lua program that makes wrk send this work. In order, names are asked for one
// after the other, else at random.
func (w work) script(inOrder bool) string {
	var b strings.Builder
	if w.closes {
		b.WriteString("wrk.headers[\"Connection\"] = \"close\"\n")
	}
	if w.post > 0 {
		fmt.Fprintf(&b, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", w.post)
	}
	if w.hosts > 1 {
		b.WriteString(w.hostScript(inOrder))
	} else {
		fmt.Fprintf(&b, "wrk.headers[\"Host\"] = %q\n", hostName(0))
	}
	b.WriteString(reportScript)
	return b.String()
}

// hostScript gives each request a name of its own. The text is put together by hand because
// wrk.format would be the slowest part of the whole measurement.
func (w work) hostScript(inOrder bool) string {
	next := fmt.Sprintf("math.random(0, %d)", w.hosts-1)
	if inOrder {
		next = fmt.Sprintf("count %% %d", w.hosts)
	}
	return fmt.Sprintf(`local count = -1
local head, rest = "GET %s HTTP/1.1\r\nHost: h", ".load.test\r\n\r\n"
function request()
  count = count + 1
  return head .. %s .. rest
end
`, w.path, next)
}
