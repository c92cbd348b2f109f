package proxy

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// slots is the size of the fixed tables that hold a number per frontend. Frontends whose keys hash to the same slot
// share the number: memory stays bounded for any number of hosts, and an edge has far fewer busy frontends than slots.
const slots = 4096

var slotSeed = maphash.MakeSeed()

func slotOf(key string) int { return int(maphash.String(slotSeed, key) % slots) }

// rotation counts the turns of round robin.
type rotation struct {
	turns [slots]atomic.Uint64
}

func (r *rotation) next(key string) uint64 { return r.turns[slotOf(key)].Add(1) }

// Limits of retries: at most this share of a frontend's requests in a window, and always the floor.
const (
	budgetWindow = 10 * time.Second
	budgetFloor  = 100
	budgetShare  = 5 // one retry in five requests
)

// budget counts requests and retries per frontend over budgetWindow. The counts are approximate when a window turns
// over: a few requests may be lost to a race, never a limit.
type budget struct {
	slots [slots]budgetSlot
}

type budgetSlot struct {
	window   atomic.Int64
	requests atomic.Int64
	retries  atomic.Int64
}

// slot returns the counters of key's present window.
func (b *budget) slot(key string, t instant) *budgetSlot {
	s := &b.slots[slotOf(key)]
	if w := int64(t) / int64(budgetWindow); s.window.Load() != w {
		if old := s.window.Load(); old != w && s.window.CompareAndSwap(old, w) {
			s.requests.Store(0)
			s.retries.Store(0)
		}
	}
	return s
}

// request counts a request.
func (b *budget) request(key string, t instant) { b.slot(key, t).requests.Add(1) }

// retry counts a retry and reports whether it is within the budget.
func (b *budget) retry(key string, t instant) bool {
	s := b.slot(key, t)
	n := s.retries.Add(1)
	if n <= budgetFloor || n <= s.requests.Load()/budgetShare {
		return true
	}
	s.retries.Add(-1)
	return false
}
