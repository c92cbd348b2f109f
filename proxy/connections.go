package proxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// connections is the registry of client connections: for limits, metrics and drain.
type connections struct {
	open   atomic.Int64
	shards [connShards]connShard

	ipMu sync.Mutex
	ips  map[netip.Addr]int // connections per address, only while MaxConnectionsPerIP is set

	freeMu sync.Mutex
	freed  *sync.Cond // a connection has ended
}

const connShards = 16

type connShard struct {
	mu sync.Mutex
	m  map[*clientConn]struct{}
}

func newConnections() *connections {
	cs := &connections{ips: make(map[netip.Addr]int)}
	cs.freed = sync.NewCond(&cs.freeMu)
	for i := range cs.shards {
		cs.shards[i].m = make(map[*clientConn]struct{})
	}
	return cs
}

func (cs *connections) shard(c *clientConn) *connShard {
	return &cs.shards[int(c.peer.addr.As16()[15])%connShards]
}

func (cs *connections) add(c *clientConn) {
	sh := cs.shard(c)
	sh.mu.Lock()
	sh.m[c] = struct{}{}
	sh.mu.Unlock()
}

func (cs *connections) remove(c *clientConn) {
	sh := cs.shard(c)
	sh.mu.Lock()
	delete(sh.m, c)
	sh.mu.Unlock()
}

// count returns how many connections are accepted and not closed.
func (cs *connections) count() int64 { return cs.open.Load() }

// begin counts a connection in; end counts it out and wakes a listener that waits for room.
func (cs *connections) begin() { cs.open.Add(1) }

func (cs *connections) end() {
	cs.open.Add(-1)
	cs.freed.Broadcast()
}

// beginIP counts a connection of an address. It reports false if the address has limit of them already.
func (cs *connections) beginIP(a netip.Addr, limit int) bool {
	cs.ipMu.Lock()
	defer cs.ipMu.Unlock()
	if cs.ips[a] >= limit {
		return false
	}
	cs.ips[a]++
	return true
}

func (cs *connections) endIP(a netip.Addr) {
	cs.ipMu.Lock()
	defer cs.ipMu.Unlock()
	if cs.ips[a]--; cs.ips[a] <= 0 {
		delete(cs.ips, a)
	}
}

// cut closes every connection, whatever it is doing.
func (cs *connections) cut() {
	for i := range cs.shards {
		sh := &cs.shards[i]
		sh.mu.Lock()
		for c := range sh.m {
			_ = c.link.Close() // Whoever reads, writes or watches it takes this for the client's leaving.
		}
		sh.mu.Unlock()
	}
}

// addrOf returns the peer's address.
func addrOf(c net.Conn) netip.Addr {
	if s, ok := c.(*socket); ok {
		return s.peer.Addr()
	}
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// vouchedFor reports whether an address is loopback or in a list of trusted proxies that the operator chose.
func (c *Config) vouchedFor(a netip.Addr) bool {
	return a.IsLoopback() || c.TrustedProxiesSet && trusts(c.TrustedProxies, a)
}

// trusts reports whether an address lies in one of the ranges.
func trusts(ranges []netip.Prefix, a netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
