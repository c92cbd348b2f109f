package cache

import (
	"math"
	"sync/atomic"
	"unsafe"
)

// never is the time of something that does not expire by itself.
const never = math.MaxInt64

// entry is the place of one name in the table: an exact host, "*.suffix" or "*". The store's list
// and dead set of that name are its value, which is replaced as a whole. Make one with newEntry.
type entry struct {
	value atomic.Pointer[value] // never nil
	use   atomic.Uint32         // a use: when it was used

	// Guarded by Cache.mu.
	slot int32 // position in its space

	nameBytes uint16    // immutable
	kind      spaceKind // guarded by Cache.mu
	// text is where the name begins; it goes on behind the entry, in the same allocation. Immutable.
	text [5]byte
}

// maxNameBytes is the longest name that an entry can have. That of a host has 253 at most, and in
// LookupExact a port.
const maxNameBytes = 264 + len(entry{}.text)

// name returns the entry's name.
func (e *entry) name() string {
	// Unsafe: newEntry made room for nameBytes, which are never written again, and the string keeps
	// the whole allocation alive.
	return unsafe.String((*byte)(unsafe.Pointer(&e.text)), int(e.nameBytes))
}

// isWildcard tells whether the name is "*.suffix" or "*".
func (e *entry) isWildcard() bool { return e.text[0] == '*' }

// newEntry returns an entry that is not in the table. What a hit touches lies in one piece, for at a
// million hosts each piece more is a miss of the processor's caches: the name beside the entry, and
// the first value too if it is that of a list, since the others are soon replaced by shared ones. A
// name of the usual length makes 64 bytes, and 128 with the value: whole cache lines, which the
// processor fetches in pairs.
func newEntry(name string, v *value) *entry {
	beside := v.frontend != nil
	switch n := len(name) - len(entry{}.text); {
	case n <= 40:
		return place[[40]byte](name, v, beside)
	case n <= 56:
		return place[[56]byte](name, v, beside)
	case n <= 72:
		return place[[72]byte](name, v, beside)
	case n <= 104:
		return place[[104]byte](name, v, beside)
	case n <= 168:
		return place[[168]byte](name, v, beside)
	case n <= 264:
		return place[[264]byte](name, v, beside)
	default:
		panic("BUG: cache: a name of more than maxNameBytes")
	}
}

// place puts an entry and the rest of its name, a T, into one allocation, and a copy of v too if it
// is to lie beside them.
func place[T any](name string, v *value, beside bool) *entry {
	var e *entry
	if beside {
		room := new(struct {
			entry
			rest  T
			first value
		})
		room.first = *v
		e, v = &room.entry, &room.first
	} else {
		e = &new(struct {
			entry
			rest T
		}).entry
	}
	e.nameBytes = uint16(len(name))
	// Unsafe: the text goes on in rest, which is long enough and lies behind it without a gap.
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e.text)), len(name)), name)
	if f := v.frontend; f != nil && !f.settled && f.Key == name {
		f.Key, f.settled = e.name(), true // Whoever finds the list has just read the name there.
	}
	e.value.Store(v)
	return e
}

// value is what the store last said about a name. It is immutable: a change stores another one. It
// fills one cache line.
type value struct {
	// epoch is the epoch in which the value was read; 0 means that it is known to be outdated.
	epoch   uint64
	expires int64 // not fresh from here on
	// frontend is the name's own list; nil means that the store has none.
	frontend *Frontend
	extra    *extra // nil means no dead set and no policy
	// marks are this process's own, of the backends in frontend; later values take them over.
	marks *markSet
	// target is the wildcard entry that answers for a name without a list; nil means none.
	target *entry
	pushed int64 // when a push first outdated frontend; 0 while none did
	soft   tick  // fresh, but to be read again in the background
	// gen is the wildcard generation in which target was found, or with a list the generation in which
	// the policy was; 0 means not found yet.
	gen uint32
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
