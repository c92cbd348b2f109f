package cache

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

const (
	tableShards     = 64
	minShardBuckets = 4
	// bucketSlots is how many entries a bucket holds. With their tags they fill one cache line.
	bucketSlots = 7
	// maxBucketLoad is the average number of entries in a bucket at which a shard grows. One name in
	// twelve does not find room in its own bucket then; on average over all sizes it is one in fifty.
	maxBucketLoad = 5
	// manyOverflows is a count of overflows from which on a bucket does not count any more.
	manyOverflows = 255
)

// table finds entries by name. Readers take no lock and write nothing; writers hold Cache.mu.
//
// Each shard is an array of buckets, searched from the one that the name's hash gives. A hit costs
// two misses of the processor's caches, the bucket and the entry: other entries are not touched, since
// the bucket holds eight bits of the hash of each name.
type table struct {
	seed maphash.Seed
	// shards are replaced as a whole when one of them grows: a reader that has the old ones sees the
	// table as it was then.
	shards atomic.Pointer[shardBuckets]
	counts [tableShards]int // entries of each shard; guarded by Cache.mu
}

// shardBuckets has the buckets of each shard. They stand beside each other, so that many lookups find
// them in the processor's caches.
type shardBuckets [tableShards][]bucket

// bucket holds entries in one cache line of 64 bytes.
type bucket struct {
	// tags holds one byte per slot, 0 for an empty one; the highest byte counts the entries that
	// belong here, or further in front, and found room only further behind.
	tags  atomic.Uint64
	slots [bucketSlots]atomic.Pointer[entry]
}

const (
	everyByte    = 0x0101010101010101
	slotBytes    = 1<<(8*bucketSlots) - 1
	overflowUnit = 1 << (8 * bucketSlots)
)

// tagOf returns the tag of a hash, from bits that the choice of the bucket does not use.
func tagOf(hash uint64) uint64 { return max(hash>>56, 1) }

// candidates returns a word in which the high bit of each byte is set whose tag is the given one. A
// byte behind such a byte may be set by mistake.
func candidates(tags, tag uint64) uint64 {
	x := tags ^ tag*everyByte
	return (x - everyByte) &^ x & (everyByte << 7) & slotBytes
}

func newTable() *table {
	t, shards := &table{seed: maphash.MakeSeed()}, &shardBuckets{}
	for i := range shards {
		shards[i] = make([]bucket, minShardBuckets)
	}
	t.shards.Store(shards)
	return t
}

// buckets returns the buckets of the shard of a hash.
func (t *table) buckets(hash uint64) []bucket { return t.shards.Load()[hash%tableShards] }

// home returns the index of the bucket at which the search for a hash begins.
func home(hash uint64, b []bucket) uint64 {
	return uint64(uint32(hash)) / tableShards & uint64(len(b)-1)
}

// find returns the entry of name, or nil. It does not allocate.
func (t *table) find(name []byte) *entry {
	return t.search(maphash.Bytes(t.seed, name), unsafe.String(unsafe.SliceData(name), len(name))) // Unsafe: not kept.
}

// findString is find for a name that already is a string.
func (t *table) findString(name string) *entry {
	return t.search(maphash.String(t.seed, name), name)
}

// search returns the entry of name, which has this hash.
func (t *table) search(hash uint64, name string) *entry {
	b, tag := t.buckets(hash), tagOf(hash)
	for i, last := home(hash, b), home(hash, b)+uint64(len(b)); i < last; i++ {
		at := &b[i&uint64(len(b)-1)]
		tags := at.tags.Load()
		for c := candidates(tags, tag); c != 0; c &= c - 1 {
			e := at.slots[bits.TrailingZeros64(c)/8].Load()
			if e == nil {
				continue
			}
			if e.name() == name {
				return e
			}
		}
		if tags < overflowUnit {
			break
		}
	}
	return nil
}

// insert adds e, whose name must not be in the table. Cache.mu is held.
func (t *table) insert(e *entry) {
	hash := maphash.String(t.seed, e.name())
	shard := hash % tableShards
	if t.counts[shard] >= maxBucketLoad*len(t.buckets(hash)) {
		t.grow(shard)
	}
	put(t.buckets(hash), hash, e)
	t.counts[shard]++
}

// put stores e in the first free slot from its home on.
func put(b []bucket, hash uint64, e *entry) {
	for i := home(hash, b); ; i++ {
		at := &b[i&uint64(len(b)-1)]
		tags := at.tags.Load()
		if free := candidates(tags, 0); free != 0 {
			// The entry first: whoever sees the tag sees the entry too.
			slot := bits.TrailingZeros64(free) / 8
			at.slots[slot].Store(e)
			at.tags.Store(tags | tagOf(hash)<<(8*slot))
			return
		}
		if tags>>(8*bucketSlots) < manyOverflows {
			at.tags.Store(tags + overflowUnit)
		}
	}
}

// remove takes e out of the table. Cache.mu is held.
func (t *table) remove(e *entry) {
	hash := maphash.String(t.seed, e.name())
	b := t.buckets(hash)
	for i := home(hash, b); ; i++ {
		at := &b[i&uint64(len(b)-1)]
		tags := at.tags.Load()
		for slot := range at.slots {
			if at.slots[slot].Load() == e {
				at.tags.Store(tags &^ (0xff << (8 * slot)))
				at.slots[slot].Store(nil)
				t.counts[hash%tableShards]--
				return
			}
		}
		switch overflows := tags >> (8 * bucketSlots); {
		case overflows == 0:
			panic("BUG: cache: removing an entry that is not in the table: " + e.name())
		case overflows < manyOverflows:
			at.tags.Store(tags - overflowUnit)
		}
	}
}

// grow doubles the buckets of one shard. A shard at a time keeps the pause short: at a million
// hosts it moves some 16 000 entries.
func (t *table) grow(shard uint64) {
	shards := *t.shards.Load()
	old := shards[shard]
	grown := make([]bucket, 2*len(old))
	for i := range old {
		for slot := range old[i].slots {
			if e := old[i].slots[slot].Load(); e != nil {
				put(grown, maphash.String(t.seed, e.name()), e)
			}
		}
	}
	shards[shard] = grown
	t.shards.Store(&shards)
}
