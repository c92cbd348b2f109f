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
	most   atomic.Int64 // that were open since crowd was asked, about
	shards [connShards]connShard

	// Only while MaxConnectionsPerIP is set; guarded by ipMu.
	ipMu   sync.Mutex
	ips    map[netip.Addr]int // connections per address
	claims map[netip.Addr]int // handshakes of HTTP/3 besides, of which the address may be another's

	freeMu sync.Mutex
	freed  *sync.Cond // a connection has ended
}

const connShards = 16

// connShard is a ring of connections, so that taking one in or out costs a few words.
type connShard struct {
	mu   sync.Mutex
	ring acceptedConn // only its links are used
	_    [64]byte     // The next shard's lock lies in another cache line.
}

func newConnections() *connections {
	cs := &connections{ips: make(map[netip.Addr]int), claims: make(map[netip.Addr]int)}
	cs.freed = sync.NewCond(&cs.freeMu)
	for i := range cs.shards {
		r := &cs.shards[i].ring
		r.next, r.prev = r, r
	}
	return cs
}

// count returns how many connections are accepted and not closed.
func (cs *connections) count() int64 { return cs.open.Load() }

// crowd returns how many connections were open at once since it was last asked, a few less where many came together.
func (cs *connections) crowd() int64 {
	n := cs.count()
	return max(n, cs.most.Swap(n))
}

// begin takes a connection in.
func (cs *connections) begin(a *acceptedConn) {
	n := cs.open.Add(1)
	if n > cs.most.Load() {
		cs.most.Store(n)
	}
	a.shard = uint8(n % connShards)
	sh := &cs.shards[a.shard]
	sh.mu.Lock()
	a.prev, a.next = &sh.ring, sh.ring.next
	a.prev.next, a.next.prev = a, a
	sh.mu.Unlock()
}

// end takes it out and wakes a listener that waits for room.
func (cs *connections) end(a *acceptedConn) {
	sh := &cs.shards[a.shard]
	sh.mu.Lock()
	a.prev.next, a.next.prev = a.next, a.prev
	sh.mu.Unlock()
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
	countDown(cs.ips, a)
}

// beginClaim counts a connection that says it comes from an address.
func (cs *connections) beginClaim(a netip.Addr) {
	cs.ipMu.Lock()
	defer cs.ipMu.Unlock()
	cs.claims[a]++
}

func (cs *connections) endClaim(a netip.Addr) {
	cs.ipMu.Lock()
	defer cs.ipMu.Unlock()
	countDown(cs.claims, a)
}

// claimedIP returns how many connections come from an address, or say so.
func (cs *connections) claimedIP(a netip.Addr) int {
	cs.ipMu.Lock()
	defer cs.ipMu.Unlock()
	return cs.ips[a] + cs.claims[a]
}

func countDown(counts map[netip.Addr]int, a netip.Addr) {
	if counts[a]--; counts[a] <= 0 {
		delete(counts, a)
	}
}

// cut closes every connection that a goroutine works with, whatever it is doing.
func (cs *connections) cut() {
	for i := range cs.shards {
		sh := &cs.shards[i]
		sh.mu.Lock()
		for a := sh.ring.next; a != &sh.ring; a = a.next {
			_ = a.link.Close() // Whoever reads, writes or watches it takes this for the client's leaving.
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
