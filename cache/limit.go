package cache

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// maxClientMissRate is how many lookups per second one client network may send to nothing.
	maxClientMissRate = 50
	// clientSlots is the number of counters for client networks. Two networks share one now and
	// then; nobody can choose whose, as the hash is seeded.
	clientSlots = 1 << 14
)

// missLimit bounds the lookups that came to nothing, per second, in all and per client network
// (/24, /64). A counter packs the second it counts and its count into one word. It is safe for
// concurrent use and never grows.
type missLimit struct {
	rate    uint32 // 0: no limit
	seed    maphash.Seed
	all     atomic.Uint64
	clients [clientSlots]atomic.Uint64
}

func newMissLimit(rate int) *missLimit {
	return &missLimit{rate: uint32(max(rate, 0)), seed: maphash.MakeSeed()}
}

// allows tells whether a lookup that may come to nothing can still be made now.
func (l *missLimit) allows(client netip.Addr, now int64) bool {
	if l.rate == 0 {
		return true
	}
	return countIn(&l.all, now) < l.rate && countIn(l.slot(client), now) < maxClientMissRate
}

// charge counts a lookup that came to nothing.
func (l *missLimit) charge(client netip.Addr, now int64) {
	if l.rate == 0 {
		return
	}
	addTo(&l.all, now)
	addTo(l.slot(client), now)
}

// slot returns the counter of client's network. Clients without an address share one.
func (l *missLimit) slot(client netip.Addr) *atomic.Uint64 {
	client = client.Unmap()
	bits := 64
	if client.Is4() {
		bits = 24
	}
	network, err := client.Prefix(bits)
	if err != nil {
		return &l.clients[0]
	}
	raw := network.Addr().As16()
	return &l.clients[maphash.Bytes(l.seed, raw[:])%clientSlots]
}

// second numbers the seconds since the clock's start, beginning with 1: a zero word counts none.
func second(now int64) uint32 { return uint32(now/1e9) + 1 }

const (
	// discoverRate bounds how many names that are not in memory are read per second, whatever they
	// resolve to: random names under a wildcard are live routes, which no limit on failures stops.
	discoverRate = 20_000
	// discoverWait is how long such a lookup waits for its turn before it is refused, so that a cold
	// edge warms without refusals: four thousand clients at a time fit into it.
	discoverWait = 200 * time.Millisecond
	// discoverBurst is how many may begin at once after a pause.
	discoverBurst = 256
)

// pace hands out turns at an even rate. The zero value is ready. It is safe for concurrent use.
type pace struct{ next atomic.Int64 } // time of the next turn

// turn returns how long to wait for a turn; ok is false, and no turn taken, if that is longer than
// discoverWait.
func (p *pace) turn(now int64) (wait time.Duration, ok bool) {
	const interval = int64(time.Second / discoverRate)
	for {
		next := p.next.Load()
		at := max(next, now-discoverBurst*interval)
		if wait = time.Duration(at - now); wait > discoverWait {
			return wait, false
		}
		if p.next.CompareAndSwap(next, at+interval) {
			return max(wait, 0), true
		}
	}
}

func countIn(w *atomic.Uint64, now int64) uint32 {
	if v := w.Load(); v>>32 == uint64(second(now)) {
		return uint32(v)
	}
	return 0
}

func addTo(w *atomic.Uint64, now int64) {
	for {
		old := w.Load()
		next := old + 1
		if old>>32 != uint64(second(now)) {
			next = uint64(second(now))<<32 | 1
		}
		if w.CompareAndSwap(old, next) {
			return
		}
	}
}
