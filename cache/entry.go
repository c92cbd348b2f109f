package cache

import (
	"math"
	"sync/atomic"
)

// never is the time of something that does not expire by itself.
const never = math.MaxInt64

// entry is the place of one name in the table: an exact host, "*.suffix" or "*". The store's list
// and dead set of that name are its value, which is replaced as a whole.
type entry struct {
	// Immutable.
	name string

	next  atomic.Pointer[entry] // chain of the bucket
	value atomic.Pointer[value] // never nil
	marks atomic.Pointer[markSet]
	used  atomic.Uint32 // second of the last use
	hash  uint32        // of name; immutable

	// Guarded by Cache.mu.
	slot int32 // position in its space
	kind spaceKind
}

// value is what the store last said about a name. It is immutable: a change stores another one.
type value struct {
	// frontend is the name's own list; nil means that the store has none.
	frontend *Frontend
	// target is the wildcard entry that answers for a name without a list; nil means none.
	target *entry
	dead   *deadSet // nil means empty

	// epoch is the epoch in which the value was read; 0 means that it is known to be outdated.
	epoch uint64
	// gen is the wildcard generation in which target was found; 0 means not resolved yet.
	gen uint64

	expires int64 // not fresh from here on
	soft    int64 // fresh, but to be read again in the background
	pushed  int64 // when a push first outdated frontend; 0 while none did
}

// outdated returns a copy of v that is no longer fresh. A push of the list itself (as opposed to
// the dead set) dates the copy, because a grace for torn writes counts from there.
func (v *value) outdated(listPushed bool, now int64) *value {
	w := *v
	w.epoch = 0
	if listPushed && w.pushed == 0 {
		w.pushed = now
	}
	return &w
}

// kind returns the space that an entry with this value belongs to.
func (v *value) kind() spaceKind {
	switch {
	case v.frontend != nil:
		return exactSpace
	case v.target != nil:
		return derivedSpace
	default:
		return unknownSpace
	}
}

// touch notes that e was used, for eviction. It writes at most once a second, so that a hot host's
// cache line stays shared between the cores.
func (e *entry) touch(now int64) {
	if s := uint32(now >> 30); e.used.Load() != s {
		e.used.Store(s)
	}
}
