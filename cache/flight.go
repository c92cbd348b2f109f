package cache

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

// flight is one read of the store on behalf of everybody who asks for the same name. It is
// registered before the command is sent: a change that happens after the read then finds either
// the flight, which it makes dirty, or what is kept, which it outdates; and a change before the
// read is in the reply. So no reply can hide a change, whichever connection carried which.
type flight[T any] struct {
	name  string
	epoch uint64 // the cache's at registration
	// Guarded by Cache.mu.
	dirty     bool  // a push named it; later callers must not join
	pushed    int64 // when a push of its list first did; 0 while none did
	overtaken bool  // a later flight for the same name was registered

	done chan struct{}
	// Set before done is closed.
	result T
	err    error
}

// flights are the reads on their way of one kind of names. Cache.mu guards it.
type flights[T any] map[string]*flight[T]

// joinable returns the flight for name that a later caller may join, or nil.
func (fs flights[T]) joinable(name string, epoch uint64) *flight[T] {
	if f := fs[name]; f != nil && !f.dirty && f.epoch == epoch {
		return f
	}
	return nil
}

// register adds a flight for name, in place of one that must not be joined.
func (fs flights[T]) register(name string, epoch uint64) *flight[T] {
	f := &flight[T]{name: name, epoch: epoch, done: make(chan struct{})}
	if before := fs[name]; before != nil {
		before.overtaken = true
	}
	fs[name] = f
	return f
}

// land takes f out, unless a later flight has taken its place.
func (fs flights[T]) land(f *flight[T]) {
	if fs[f.name] == f {
		delete(fs, f.name)
	}
}

// spoil makes the flight for name dirty.
func (fs flights[T]) spoil(name string) {
	if f := fs[name]; f != nil {
		f.dirty = true
	}
}

// await waits for f until the deadline.
func (f *flight[T]) await(deadline time.Time) (T, error) {
	select {
	case <-f.done:
		return f.result, f.err
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-f.done:
		return f.result, f.err
	case <-timer.C:
		var none T
		return none, ErrUnavailable
	}
}

// board calls join until it finds the answer in memory, or a flight, which is a new one if it was
// given a free slot for it and took it. Until the deadline it waits for such a slot.
func board[T any](
	c *Cache, deadline time.Time, join func(slot bool) (known T, found bool, f *flight[T], launched bool),
) (T, *flight[T], error) {
	slot := c.takeSlot()
	for {
		known, found, f, launched := join(slot)
		if slot && !launched {
			<-c.slots
		}
		if found || f != nil {
			return known, f, nil
		}
		if c.lifetime.Err() != nil || !c.awaitSlot(deadline) {
			return known, nil, ErrUnavailable
		}
		slot = true
	}
}

func (c *Cache) takeSlot() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *Cache) awaitSlot(deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// settled is what a frontend's flight brings back. The entry is in the table unless a push came in
// between.
type settled struct {
	entry *entry
	value *value
}

// own returns what the store says about name itself: the fresh value from memory, or the outcome
// of a read, for which it waits until the deadline.
func (c *Cache) own(name string, deadline time.Time) (settled, error) {
	known, f, err := c.begin(name, deadline)
	if f == nil {
		return known, err
	}
	return f.await(deadline)
}

// begin returns the fresh value of name, or the flight that reads it, a new one if need be. It
// waits, until the deadline, only for a free slot.
func (c *Cache) begin(name string, deadline time.Time) (settled, *flight[settled], error) {
	if known, ok := c.fresh(name); ok {
		return known, nil, nil
	}
	return board(c, deadline, func(slot bool) (known settled, found bool, f *flight[settled], launched bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if known, found = c.fresh(name); found {
			return known, true, nil, false
		}
		if f := c.flights.joinable(name, c.epoch.Load()); f != nil {
			return known, false, f, false
		}
		if !slot || c.lifetime.Err() != nil {
			return known, false, nil, false
		}
		return known, false, c.launch(name), true
	})
}

// fresh returns the value of name if it is known and fresh.
func (c *Cache) fresh(name string) (settled, bool) {
	if e := c.table.findString(name); e != nil {
		if v := e.value.Load(); v.epoch == c.epoch.Load() && c.now() < v.expires {
			return settled{e, v}, true
		}
	}
	return settled{}, false
}

// launch registers a flight and sends it off; its slot is taken. mu is held.
func (c *Cache) launch(name string) *flight[settled] {
	f := c.flights.register(name, c.epoch.Load())
	c.runs.Go(func() { c.fly(f) })
	return f
}

// fly performs f. Its context is not that of a request: the first caller's leaving must not fail
// the others.
func (c *Cache) fly(f *flight[settled]) {
	defer func() { <-c.slots }()
	ctx, cancel := context.WithTimeout(c.lifetime, fetchTimeout)
	defer cancel()
	r, err := c.store.read(ctx, f.name, f.name[0] != '*')
	var list *Frontend
	if err == nil {
		c.stalled.Store(false)
		list = c.parseReading(f.name, &r)
	} else {
		c.noteRefusal(f.name, err)
	}
	c.mu.Lock()
	c.flights.land(f)
	if err != nil {
		c.postpone(f.name)
		f.err = ErrUnavailable
	} else {
		f.result.entry, f.result.value = c.settle(f, &r, list)
	}
	c.mu.Unlock()
	close(f.done)
}

// postpone keeps a background revalidation that failed from being repeated with each request. mu
// is held.
func (c *Cache) postpone(name string) {
	if e := c.table.findString(name); e != nil {
		w := *e.value.Load()
		w.soft = max(w.soft, tickAfter(c.now()+int64(time.Second)))
		e.value.Store(&w)
	}
}

// settle turns a reading into the name's value and keeps it. If a push came in between, it serves
// those who wait for this flight, and later ones only as what was known last, which is to be read
// again: it is newer than what was known before. mu is held.
func (c *Cache) settle(f *flight[settled], r *reading, list *Frontend) (*entry, *value) {
	now := c.now()
	e := c.table.findString(f.name)
	if e == nil {
		v := c.newValue(f, r, list, nil, now)
		if f.dirty {
			v.epoch = 0
		}
		e = newEntry(f.name, v)
		if !f.dirty {
			c.admit(e)
		}
		return e, e.value.Load()
	}
	old := e.value.Load()
	if f.dirty && old.epoch == c.epoch.Load() && now < old.expires {
		return e, old // A later read has overtaken this one, and saw what this one missed.
	}
	v := c.newValue(f, r, list, old, now)
	if f.dirty {
		v.epoch = 0
		v.pushed = cmp.Or(v.pushed, f.pushed)
	}
	switch {
	case v.epoch != 0:
		c.publish(e, v)
	case old.epoch == c.epoch.Load():
		// What is fresh stays.
	case f.overtaken || f.dirty && !list.usable():
		c.keepBindings(e, v)
	default:
		c.publish(e, v)
	}
	return e, v
}

// keepBindings takes over from a reading that is not kept what its dead ids meant: they count from
// when they were first seen. mu is held.
func (c *Cache) keepBindings(e *entry, v *value) {
	if old := e.value.Load(); old.epoch == 0 {
		w := *old
		w.setDead(v.dead())
		e.value.Store(&w)
	}
}

// newValue makes the value of a reading; old is the one before, or nil.
func (c *Cache) newValue(f *flight[settled], r *reading, list *Frontend, old *value, now int64) *value {
	v := &value{frontend: list, expires: never, soft: tickAfter(now + c.jittered(c.o.MaxAge))}
	if f.epoch == c.epoch.Load() && f.epoch&1 == 1 {
		v.epoch = f.epoch
	}
	if r.listTTL > 0 {
		v.expires = now + int64(r.listTTL)
	}
	var before *deadSet
	if old != nil {
		before, v.marks = old.dead(), old.marks.alive(now)
	}
	dead := c.readDead(f.name, r, before, now)
	if v.frontend != nil {
		dead = dead.attach(v.frontend)
	}
	v.setDead(dead)
	if at := c.tornSince(old); !v.frontend.usable() && at != 0 && now < at+int64(c.o.TornWriteGrace) {
		v.frontend, v.extra = old.frontend, old.extra
		v.expires, v.pushed = at+int64(c.o.TornWriteGrace), at
		c.m.torn.Inc()
	}
	switch isWildcard := f.name[0] == '*'; {
	case !isWildcard:
		c.carryPolicy(f.name, v, old)
	case v.frontend == nil:
		v.expires = now + c.jittered(c.o.NegativeTTL)
	}
	return v
}

// tornSince returns when a push outdated old, if old held a usable list that was fresh until then;
// else 0.
func (c *Cache) tornSince(old *value) int64 {
	switch {
	case old == nil || !old.frontend.usable() || c.o.TornWriteGrace <= 0:
		return 0
	case old.pushed != 0:
		return old.pushed
	case old.epoch != 0 && old.epoch == c.flush.epoch:
		return c.flush.at
	default:
		return 0
	}
}

// readDead makes the dead set of a reading. mu is held.
func (c *Cache) readDead(name string, r *reading, before *deadSet, now int64) *deadSet {
	if len(r.dead) == 0 {
		return nil
	}
	until := int64(never)
	if r.deadTTL > 0 {
		until = now + int64(r.deadTTL)
	}
	members := r.dead[:min(len(r.dead), c.o.MaxBackends)]
	return mergeDead(before, members, until, now, func(id int) (announcement, bool) {
		return c.heard.get(announcedKey(name, id), now)
	})
}

// admit puts a new entry into the table and into the space that its value belongs to. mu is held.
func (c *Cache) admit(e *entry) {
	v := e.value.Load()
	c.table.insert(e)
	c.spaces[v.kind()].add(e, v.kind())
	c.makeRoom(e)
	c.noteChange(&value{}, v)
	if e.isWildcard() && v.frontend != nil {
		c.wildcardsChanged()
	}
}

// publish makes v the value of e, which is in the table. mu is held.
func (c *Cache) publish(e *entry, v *value) {
	old := e.value.Load()
	if v.frontend == nil {
		// What answered for this name goes on doing so until the resolution is repeated; the
		// generation 0 asks for that.
		v.target = old.target
	} else {
		v.frontend.settled = true
	}
	c.replace(e, v)
	if e.isWildcard() && (old.frontend == nil) != (v.frontend == nil) {
		// After the value, so that whoever sees the new generation sees the value too.
		c.wildcardsChanged()
	}
}

// replace stores v in e and moves e to the space that v belongs to. mu is held.
func (c *Cache) replace(e *entry, v *value) {
	c.noteChange(e.value.Load(), v)
	e.value.Store(v)
	if kind := v.kind(); kind != e.kind {
		c.spaces[e.kind].drop(e)
		c.spaces[kind].add(e, kind)
		c.makeRoom(e)
	}
}

// makeRoom evicts from the space of e, which was added to it, if that is full. mu is held.
func (c *Cache) makeRoom(e *entry) {
	if old := c.spaces[e.kind].victim(e); old != nil {
		c.evict(old)
	}
}

// evict forgets e. Names that resolved to it may hold it still: the outdated value sends them to
// the table. mu is held.
func (c *Cache) evict(e *entry) {
	c.table.remove(e)
	c.spaces[e.kind].drop(e)
	e.value.Store(e.value.Load().outdated(false, c.now()))
	c.m.evictions[e.kind].Inc()
	c.noteChange(e.value.Load(), &value{})
}

// noteChange counts a change from old to v, if a snapshot would tell them apart. mu is held.
func (c *Cache) noteChange(old, v *value) {
	ends := v.frontend != nil && (old.expires-v.expires > int64(time.Second) || v.expires-old.expires > int64(time.Second))
	if old.frontend != v.frontend || old.target != v.target || ends {
		c.changes.Add(1)
	}
}

// jittered returns d in nanoseconds, up to a tenth more or less, so that what was read together is
// not read again together.
func (c *Cache) jittered(d time.Duration) int64 {
	return int64(float64(d) * (0.9 + 0.2*rand.Float64()))
}
