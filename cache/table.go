package cache

import (
	"hash/maphash"
	"runtime"
	"sync/atomic"
	"unsafe"
)

const (
	tableShards     = 64
	minShardBuckets = 16
	// Names are stored beside their entries, in rooms of one of three sizes, which fill the size
	// classes of the allocator.
	smallName  = 24
	mediumName = 40
	largeName  = 56
)

// table finds entries by name. Readers take no lock and write nothing shared; writers hold
// Cache.mu.
//
// Growth rewrites the chain pointers of entries on which readers may stand, so a reader can be led
// past what it looks for, though never to a wrong entry: a find that returns nil proves nothing.
// findString looks again if its shard grew meanwhile. Removal leads nobody astray: what was removed
// still points to what came after it, and new entries come in front.
type table struct {
	seed   maphash.Seed
	shards [tableShards]tableShard
}

type tableShard struct {
	buckets atomic.Pointer[[]atomic.Pointer[entry]]
	growth  atomic.Uint32 // odd while the shard grows
	count   int           // guarded by Cache.mu
}

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		b := make([]atomic.Pointer[entry], minShardBuckets)
		t.shards[i].buckets.Store(&b)
	}
	return t
}

// bucket returns the head of hash's chain.
func (s *tableShard) bucket(hash uint32) *atomic.Pointer[entry] {
	b := *s.buckets.Load()
	return &b[(hash>>8)&uint32(len(b)-1)]
}

func (t *table) shard(hash uint32) *tableShard { return &t.shards[hash%tableShards] }

func (t *table) hash(name string) uint32 { return uint32(maphash.String(t.seed, name)) }

// find returns the entry of name, or nil. It does not allocate.
func (t *table) find(name []byte) *entry {
	hash := uint32(maphash.Bytes(t.seed, name))
	for e := t.shard(hash).bucket(hash).Load(); e != nil; e = e.next.Load() {
		if e.hash == hash && e.name == string(name) {
			return e
		}
	}
	return nil
}

// findString is find for a name that already is a string; its nil is certain.
func (t *table) findString(name string) *entry {
	hash := t.hash(name)
	s := t.shard(hash)
	for {
		growth := s.growth.Load()
		for e := s.bucket(hash).Load(); e != nil; e = e.next.Load() {
			if e.hash == hash && e.name == name {
				return e
			}
		}
		if growth&1 == 0 && s.growth.Load() == growth {
			return nil
		}
		runtime.Gosched() // Growth takes a millisecond at most.
	}
}

// newEntry returns an entry that is not in the table. What a hit touches lies in one piece, for at a
// million hosts each piece more is a miss of the processor's caches: the name beside the entry, and
// the first value too if it is that of a list, since the others are soon replaced by shared ones.
func (t *table) newEntry(name string, v *value) *entry {
	place := placeAlone[[largeName]byte]
	if v.frontend != nil {
		place = placeWithValue[[largeName]byte]
	}
	switch {
	case len(name) > largeName:
		place = placeApart
	case len(name) > mediumName:
	case len(name) > smallName:
		place = placeAlone[[mediumName]byte]
		if v.frontend != nil {
			place = placeWithValue[[mediumName]byte]
		}
	default:
		place = placeAlone[[smallName]byte]
		if v.frontend != nil {
			place = placeWithValue[[smallName]byte]
		}
	}
	e := place(name, v)
	e.hash = t.hash(name)
	return e
}

// placeApart is for names that are too long to lie beside their entry; those are rare.
func placeApart(name string, v *value) *entry {
	e := &entry{name: name}
	e.value.Store(v)
	return e
}

// placeAlone puts a name into a T beside its entry.
func placeAlone[T any](name string, v *value) *entry {
	room := new(struct {
		entry
		text T
	})
	room.name = inlined(unsafe.Pointer(&room.text), name)
	room.value.Store(v)
	return &room.entry
}

// placeWithValue puts a name into a T beside its entry, and a copy of v too.
func placeWithValue[T any](name string, v *value) *entry {
	room := new(struct {
		entry
		text  T
		first value
	})
	room.first = *v
	room.name = inlined(unsafe.Pointer(&room.text), name)
	room.value.Store(&room.first)
	return &room.entry
}

// inlined copies name to text, which is long enough, and returns it as a string there.
func inlined(text unsafe.Pointer, name string) string {
	// Unsafe: text is never written again, and the string keeps the whole allocation alive.
	copy(unsafe.Slice((*byte)(text), len(name)), name)
	return unsafe.String((*byte)(text), len(name))
}

// insert adds e, whose name must not be in the table. Cache.mu is held.
func (t *table) insert(e *entry) {
	s := t.shard(e.hash)
	// Half full at most: an entry of another name in the chain costs a miss of the processor's cache.
	if 2*s.count >= len(*s.buckets.Load()) {
		s.grow()
	}
	head := s.bucket(e.hash)
	e.next.Store(head.Load())
	head.Store(e)
	s.count++
}

// remove takes e out of the table. Its chain pointer stays, for readers that stand on it. Cache.mu
// is held.
func (t *table) remove(e *entry) {
	s := t.shard(e.hash)
	link := s.bucket(e.hash)
	for at := link.Load(); at != nil; at = link.Load() {
		if at == e {
			link.Store(e.next.Load())
			s.count--
			return
		}
		link = &at.next
	}
	panic("BUG: cache: removing an entry that is not in the table: " + e.name)
}

// grow doubles the buckets of one shard. A shard at a time keeps the pause short: at a million
// hosts it moves some 16 000 entries.
func (s *tableShard) grow() {
	s.growth.Add(1)
	defer s.growth.Add(1)
	old := *s.buckets.Load()
	grown := make([]atomic.Pointer[entry], 2*len(old))
	for i := range old {
		for e := old[i].Load(); e != nil; {
			next := e.next.Load()
			head := &grown[(e.hash>>8)&uint32(len(grown)-1)]
			e.next.Store(head.Load())
			head.Store(e)
			e = next
		}
	}
	s.buckets.Store(&grown)
}
