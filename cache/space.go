package cache

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// spaceKind names one of the three bounded spaces that share the table.
type spaceKind uint8

const (
	exactSpace   spaceKind = iota // names with a list of their own, wildcards included
	derivedSpace                  // names that a wildcard or "*" answers for
	unknownSpace                  // names that nothing answers for
	spaceKinds
)

var spaceNames = [spaceKinds]string{"exact", "derived", "unknown"}

const (
	// evictionSample is how many entries are compared to find one that is hardly used. That comes
	// close to comparing all, and needs no list that every hit would have to write.
	evictionSample = 16
	// lapsPerRoom is how many laps it takes to add as many entries as there is room for. Fewer would
	// remember for longer what was popular once: TestEviction compares.
	lapsPerRoom = 2
	// useBits is how many laps a use remembers.
	useBits = 16
)

// space bounds the entries of one kind. Random names can fill only the kind that they resolve to,
// so they never evict a real host. All methods need Cache.mu.
//
// Time is counted in laps: in entries that came in. While none come, nothing is evicted, and no hit
// writes anything.
type space struct {
	limit   int
	members []*entry
	added   int            // in this lap
	lap     *atomic.Uint32 // read by hits
}

func (s *space) add(e *entry, kind spaceKind) {
	e.kind = kind
	e.slot = int32(len(s.members))
	s.members = append(s.members, e)
	if s.added++; s.added*lapsPerRoom >= s.limit {
		s.added = 0
		s.lap.Add(1)
	}
	e.touch(s.lap)
}

func (s *space) drop(e *entry) {
	last := len(s.members) - 1
	moved := s.members[last]
	s.members[e.slot] = moved
	moved.slot = e.slot
	s.members[last] = nil
	s.members = s.members[:last]
}

// victim picks the entry to evict, nil while there is room. The newest entry, keep, is spared.
func (s *space) victim(keep *entry) *entry {
	if len(s.members) <= s.limit {
		return nil
	}
	lap := s.lap.Load()
	var least *entry
	var leastWorth uint32
	for range evictionSample {
		e := s.members[rand.IntN(len(s.members))]
		if worth := use(e.use.Load()).worth(lap); e != keep && (least == nil || worth < leastWorth) {
			least, leastWorth = e, worth
		}
	}
	return least
}

// use says in which of the last laps an entry was used: the lower half is the lap of the last use,
// modulo 1<<useBits, the upper half has a bit for that one, the highest, and for each one before.
type use uint32

// laps returns the bits as they are in the given lap.
func (u use) laps(lap uint32) uint32 {
	age := uint32(uint16(lap) - uint16(u))
	return uint32(u) >> useBits >> age // a shift by more than there are bits leaves none
}

// worth orders entries for eviction: by the number of laps in which they were used, then by how
// lately. So names that are asked for once, by however many senders, leave first.
func (u use) worth(lap uint32) uint32 {
	laps := u.laps(lap)
	return uint32(bits.OnesCount32(laps))<<useBits | laps
}

// in returns u with a use in the given lap.
func (u use) in(lap uint32) use {
	return use((u.laps(lap)|1<<(useBits-1))<<useBits | lap&(1<<useBits-1))
}

// touch notes that e was used. It writes once per lap at most, so that a hot host's cache line
// stays shared between the cores; of two that write at the same time one may be lost.
func (e *entry) touch(lap *atomic.Uint32) {
	now := lap.Load()
	if u := use(e.use.Load()); uint16(u) != uint16(now) || u == 0 {
		e.use.Store(uint32(u.in(now)))
	}
}
