package cache

import (
	"context"
	"hash/maphash"
	"time"
)

// hash is what the store last said about one name of a family.
type hash[T any] struct {
	// Immutable.
	content *T     // nil: there is none, or none that can be used
	until   int64  // not fresh from here on
	sum     uint64 // of the fields that content was made of; 0 when there were none

	// Guarded by Cache.mu.
	epoch  uint64 // in which it was read; 0 means that it is known to be outdated
	soft   int64  // fresh, but to be read again in the background
	pushed int64  // when a push first outdated it; 0 while none did
	used   int64
}

// hashTable keeps the hashes of one family that were asked for, by the rules of the table of
// frontends: single-flight, no reading kept that a change has overtaken, the last value while the
// store is away, bounded spaces for what exists and for what does not. It is separate and small
// because nothing here is asked for by every request.
type hashTable[T any] struct {
	// Immutable.
	c      *Cache
	family family
	limit  int
	seed   maphash.Seed
	// parse makes the content of the fields, or says why it cannot. It is called without a lock.
	parse func(name string, fields map[string]string) (*T, error)

	// Guarded by Cache.mu.
	present map[string]*hash[T]
	absent  *recent[*hash[T]]
	flights flights[*hash[T]]
	index   nameIndex
	// refused is the epoch in which the server said that it may not be asked.
	refused uint64
	nothing hash[T] // stands for each name that is known not to exist

	// depends is called when the content of a name may have changed.
	depends func(name string)
}

func newHashTable[T any](
	c *Cache, f family, limit int, parse func(name string, fields map[string]string) (*T, error),
) *hashTable[T] {
	return &hashTable[T]{
		c: c, family: f, limit: limit, seed: maphash.MakeSeed(), parse: parse,
		present: map[string]*hash[T]{},
		absent:  newRecent[*hash[T]](int64(c.o.MaxAge), c.o.MaxUnknownHosts/2+1),
		flights: flights[*hash[T]]{},
		depends: func(string) {},
	}
}

// changed marks what is known under name. mu is held.
func (t *hashTable[T]) changed(name string) {
	t.flights.spoil(name)
	t.index.add(name)
	now := t.c.now()
	if h := t.known(name, now); h != nil {
		h.epoch = 0
		if h.pushed == 0 {
			h.pushed = now
		}
		if h.content != nil {
			t.c.rereadSoon(changedKey{name: name, isHash: true, family: t.family})
		}
	}
	t.depends(name)
}

// known returns what was last said about name, fresh or not. mu is held.
func (t *hashTable[T]) known(name string, now int64) *hash[T] {
	if h := t.present[name]; h != nil {
		return h
	}
	h, _ := t.absent.get(name, now)
	return h
}

// fresh returns what memory says for certain about name: ok is false if the store must be asked. A
// nil content means that there is nothing. mu is held.
func (t *hashTable[T]) fresh(name string, now int64) (h *hash[T], ok bool) {
	epoch := t.c.epoch.Load()
	h = t.known(name, now)
	switch {
	case epoch&1 == 0:
		return h, false
	case h != nil && h.epoch == epoch && now < h.until:
		if h.used = now; now >= h.soft {
			t.revalidate(name)
		}
		return h, true
	case t.refused == epoch:
		return &t.nothing, true
	case t.index.lacks(name, epoch):
		return t.gone(name, h, now), true
	}
	return h, false
}

// gone returns what counts under a name that the index lacks: what an earlier epoch knew, for as long
// as a list would. mu is held.
func (t *hashTable[T]) gone(name string, h *hash[T], now int64) *hash[T] {
	at := t.tornSince(h)
	end := at + int64(t.c.o.TornWriteGrace)
	if at != 0 && now < min(end, h.until) {
		kept := &hash[T]{
			content: h.content, sum: h.sum, until: min(end, h.until), soft: never,
			epoch: t.c.epoch.Load(), pushed: at, used: now,
		}
		t.present[name] = kept
		return kept
	}
	if _, ok := t.present[name]; ok {
		delete(t.present, name)
		t.c.noteHashChange(t.family)
	}
	return &t.nothing
}

// tornSince returns when a push outdated h, if h held something; else 0. A flush is a push for all that
// was fresh.
func (t *hashTable[T]) tornSince(h *hash[T]) int64 {
	switch {
	case h == nil || h.content == nil || t.c.o.TornWriteGrace <= 0:
		return 0
	case h.pushed != 0:
		return h.pushed
	case h.epoch != 0 && h.epoch == t.c.flush.epoch:
		return t.c.flush.at
	default:
		return 0
	}
}

// empty tells whether there is no name at all, nor one that counts for a while yet. mu is held.
func (t *hashTable[T]) empty(epoch uint64) bool { return t.index.empty(epoch) && len(t.present) == 0 }

// found is the answer to a question for one name, or the flight that will bring it.
type found[T any] struct {
	hash   *hash[T] // nil: not known yet
	flight *flight[*hash[T]]
}

// content returns nil if there is none.
func (f *found[T]) content() *T {
	if f.hash == nil {
		return nil
	}
	return f.hash.content
}

// await waits for the flight, if there is one. If it takes too long, what was known before stays.
func (f *found[T]) await(begin time.Time) error {
	if f.flight == nil {
		return nil
	}
	wait := fetchTimeout
	if f.content() != nil {
		wait = refreshWait
	}
	h, err := f.flight.await(begin.Add(wait))
	if err == nil {
		f.hash = h
	}
	return err
}

// ask answers from memory or begins a read of name, without waiting for it. mayRead is asked before
// a name is read of which nothing is known, not even that it exists.
func (t *hashTable[T]) ask(name string, deadline time.Time, mayRead func() bool) (found[T], error) {
	c := t.c
	c.mu.Lock()
	h, ok := t.fresh(name, c.now())
	// With a complete index, a name that fresh does not answer for is one that exists: it may be read.
	exists := t.index.complete(c.epoch.Load())
	c.mu.Unlock()
	switch {
	case ok:
		return found[T]{hash: h}, nil
	case c.epoch.Load()&1 == 0:
		if h == nil {
			return found[T]{}, ErrUnavailable
		}
		return found[T]{hash: h}, nil
	case h == nil && !exists && !mayRead():
		return found[T]{}, ErrLookupLimited
	}
	known, f, err := board(c, deadline, func(slot bool) (known *hash[T], ok bool, f *flight[*hash[T]], launched bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if known, ok = t.fresh(name, c.now()); ok {
			return known, true, nil, false
		}
		if f := t.flights.joinable(name, c.epoch.Load()); f != nil {
			return nil, false, f, false
		}
		if !slot || c.lifetime.Err() != nil {
			return nil, false, nil, false
		}
		return nil, false, t.launch(name), true
	})
	if f != nil || err != nil {
		return found[T]{hash: h, flight: f}, err
	}
	return found[T]{hash: known}, nil
}

// first returns the first of the names that has a content which passes, asking for all of them at
// once: what is in memory is not waited for behind one that is known to come first. A name that
// cannot be asked for is passed over; err tells that this happened, and that what was found may not
// be what counts.
func (t *hashTable[T]) first(
	names []string, mayRead func() bool, passes func(name string, content *T) bool,
) (h *hash[T], err error) {
	begin := time.Now()
	asked := make([]found[T], 0, maxLabels+1)
	ask := func() {
		f, askErr := t.ask(names[len(asked)], begin.Add(fetchTimeout), mayRead)
		if asked = append(asked, f); askErr != nil {
			err = askErr
		}
	}
	for len(asked) < len(names) {
		ask()
		if f := &asked[len(asked)-1]; f.flight == nil && f.content() != nil {
			break // mostly; if it does not pass, the rest is asked for below
		}
	}
	for i := range names {
		if i == len(asked) {
			ask()
		}
		f := &asked[i]
		if waitErr := f.await(begin); waitErr != nil {
			err = waitErr
		}
		if f.content() != nil && passes(names[i], f.content()) {
			return f.hash, err
		}
	}
	return nil, err
}

// revalidate reads an aged name again in the background, if a slot is free. mu is held.
func (t *hashTable[T]) revalidate(name string) {
	if t.flights[name] != nil || t.c.lifetime.Err() != nil || !t.c.takeSlot() {
		return
	}
	t.launch(name)
}

// launch registers a flight and sends it off; its slot is taken. mu is held.
func (t *hashTable[T]) launch(name string) *flight[*hash[T]] {
	f := t.flights.register(name, t.c.epoch.Load())
	t.c.runs.Go(func() { t.fly(f) })
	return f
}

func (t *hashTable[T]) fly(f *flight[*hash[T]]) {
	c := t.c
	defer func() { <-c.slots }()
	ctx, cancel := context.WithTimeout(c.lifetime, fetchTimeout)
	defer cancel()
	r, err := c.store.readHash(ctx, t.family, f.name)
	var content *T
	sum := t.sum(r.fields)
	if err == nil {
		content = t.content(f.name, &r, sum)
	}
	c.mu.Lock()
	t.flights.land(f)
	switch {
	case isForbidden(err):
		t.refuse(f.epoch, err)
		f.result = &t.nothing
	case err != nil:
		if h := t.present[f.name]; h != nil {
			h.soft = max(h.soft, c.now()+int64(time.Second))
		}
		f.err = ErrUnavailable
	default:
		f.result = t.settle(f, &r, content, sum)
	}
	c.mu.Unlock()
	close(f.done)
}

// refuse notes that the server does not let us read the family: its user was made for an older
// version. Nothing is asked for until the next connection. mu is held.
func (t *hashTable[T]) refuse(epoch uint64, err error) {
	if t.refused == epoch {
		return
	}
	t.refused = epoch
	key := familyKeys[t.family]
	if t.c.notes.first("refused "+key, t.c.now()) {
		t.c.log.Warn("store refuses to read keys, which are taken not to exist; docs/redis.md lists the rights",
			"keys", key+"*", "cause", err)
	}
}

// sum tells contents apart without keeping them.
func (t *hashTable[T]) sum(fields map[string]string) uint64 {
	if fields == nil {
		return 0
	}
	sum := uint64(1)
	for name, text := range fields { // in any order
		sum += maphash.Comparable(t.seed, [2]string{name, text})
	}
	return max(sum, 1)
}

// content parses a reading. What did not change keeps its content.
func (t *hashTable[T]) content(name string, r *hashReading, sum uint64) *T {
	t.c.mu.Lock()
	h := t.present[name]
	same := h != nil && h.sum == sum && h.content != nil
	t.c.mu.Unlock()
	if same && r.fields != nil {
		return h.content
	}
	err := r.broken
	if err == nil && r.fields != nil {
		var content *T
		if content, err = t.parse(name, r.fields); err == nil {
			return content
		}
	}
	if err != nil {
		t.c.noteHash(t.family, name, err)
	}
	return nil
}

// settle turns a reading into what is known, and keeps it unless a push came in between: then it
// serves those who wait for this flight, and nobody after them. mu is held.
func (t *hashTable[T]) settle(f *flight[*hash[T]], r *hashReading, content *T, sum uint64) *hash[T] {
	c := t.c
	now := c.now()
	old := t.known(f.name, now)
	if f.dirty && old != nil && old.epoch == c.epoch.Load() && now < old.until {
		return old // A later read has overtaken this one, and saw what this one missed.
	}
	h := &hash[T]{content: content, sum: sum, until: never, soft: now + c.jittered(c.o.MaxAge), used: now}
	if !f.dirty && f.epoch == c.epoch.Load() && f.epoch&1 == 1 {
		h.epoch = f.epoch
	}
	if r.ttl > 0 {
		h.until = now + int64(r.ttl)
	}
	exists := r.fields != nil || r.broken != nil
	torn := t.tornSince(old)
	switch {
	case content != nil || old == nil || old.content == nil:
	case exists:
		// What serves is better than what cannot be used.
		h.content, h.sum = old.content, old.sum
	case torn != 0 && now < torn+int64(c.o.TornWriteGrace):
		// A writer that replaces a hash may remove it first.
		h.content, h.sum, h.pushed = old.content, old.sum, torn
		h.until = torn + int64(c.o.TornWriteGrace)
		exists = true
	}
	if !exists {
		h.until = min(h.until, now+c.jittered(c.o.NegativeTTL))
	}
	if f.dirty || h.epoch == 0 && old != nil && old.epoch == c.epoch.Load() {
		return h
	}
	if old == nil && h.content != nil || old != nil && old.content != h.content {
		c.noteHashChange(t.family)
	}
	unannounced := old != nil && old.epoch == h.epoch && old.content != h.content
	t.keep(f.name, h, exists, now)
	if unannounced {
		t.depends(f.name)
	}
	return h
}

// keep stores h. mu is held.
func (t *hashTable[T]) keep(name string, h *hash[T], exists bool, now int64) {
	if !exists {
		delete(t.present, name)
		t.absent.put(name, h, now)
		if h.epoch != 0 {
			t.index.remove(name)
		}
		return
	}
	t.absent.forget(name)
	if _, ok := t.present[name]; !ok && len(t.present) >= t.limit {
		t.evict()
	}
	t.present[name] = h
}

// noteHashChange counts a change of a family's contents, if a snapshot would tell.
func (c *Cache) noteHashChange(f family) {
	if f != certificateFamily || c.o.SnapshotKeys {
		c.changes.Add(1)
	}
}

// count returns how many hashes are kept.
func (t *hashTable[T]) count() float64 {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return float64(len(t.present))
}

// evict forgets the one that was not used for the longest time among a few. mu is held.
func (t *hashTable[T]) evict() {
	oldest, n := "", 0
	var used int64
	for name, h := range t.present { // begins at a random place
		if n == 0 || h.used < used {
			oldest, used = name, h.used
		}
		if n++; n == evictionSample {
			break
		}
	}
	delete(t.present, oldest)
	t.c.m.hashEvictions[t.family].Inc()
}
