package bench

import (
	"errors"
	"testing"
)

// implementation starts a proxy that routes hosts names to one backend and returns its address.
type implementation struct {
	name    string
	routes  bool // looks names up; the twins send everything to the one backend
	tunnels bool // passes upgrades
	start   func(s *suite, backend string, hosts int) string
}

var implementations = []implementation{
	{"sluice", true, true, startSluice},
	{"nethttp", false, true, netHTTPTwin},
	{"fasthttp", false, false, fastHTTPTwin},
}

// hostCounts are the sizes of the table of routes; names are asked for in random order.
var hostCounts = []int{1, 10_000, 100_000}

// BenchmarkProxy sends requests through each implementation. The twins choose no backend, mark
// nothing and write no log: what they take is what their libraries take at least.
func BenchmarkProxy(b *testing.B) {
	needRedis(b)
	for _, impl := range implementations {
		for _, w := range works {
			if w.tunnel && !impl.tunnels {
				continue
			}
			b.Run("impl="+impl.name+"/work="+w.name+"/hosts=1", func(b *testing.B) {
				benchmarkProxy(b, impl, w, 1, usualConnections())
			})
		}
	}
}

// BenchmarkProxyHosts sends small requests for many names: what a larger table costs end to end.
func BenchmarkProxyHosts(b *testing.B) {
	needRedis(b)
	for _, impl := range implementations {
		if !impl.routes {
			continue
		}
		for _, hosts := range hostCounts {
			b.Run("impl="+impl.name+"/work="+works[0].name+"/hosts="+count(hosts), func(b *testing.B) {
				benchmarkProxy(b, impl, works[0], hosts, usualConnections())
			})
		}
	}
}

// connectionCounts are the numbers of clients that send at once.
var connectionCounts = []int{1, 10, 100, 1000}

// BenchmarkProxyConnections sends small requests over few and over many connections.
func BenchmarkProxyConnections(b *testing.B) {
	needRedis(b)
	for _, impl := range implementations {
		for _, connections := range connectionCounts {
			b.Run("impl="+impl.name+"/work="+works[0].name+"/connections="+count(connections), func(b *testing.B) {
				benchmarkProxy(b, impl, works[0], 1, connections)
			})
		}
	}
}

// benchmarkProxy measures one case.
func benchmarkProxy(b *testing.B, impl implementation, w work, hosts, connections int) {
	b.Helper()
	requests := w.requests(hosts)
	drive(b, shared.addrOf(impl, w, requests), w, requests, connections)
}

// warmUp sends each request once, over several connections: a name that was never asked for costs
// a read of the store.
func warmUp(addr string, w work, requests [][]byte) error {
	workers := min(len(requests), usualConnections())
	errs := make(chan error, workers)
	for first := range workers {
		go func() { errs <- warmUpEvery(addr, w, requests[first:], workers) }()
	}
	var all error
	for range workers {
		all = errors.Join(all, <-errs)
	}
	return all
}

// warmUpEvery sends every step-th request once.
func warmUpEvery(addr string, w work, requests [][]byte, step int) error {
	c, err := newClient(addr, w, requests[0])
	if err != nil {
		return err
	}
	defer c.close()
	for i := step; i < len(requests); i += step {
		if err := c.do(requests[i]); err != nil {
			return err
		}
	}
	return nil
}
