package cache

import (
	"context"
	"time"
)

const (
	// rereadAfter is how long after its change a name is read if nobody asked for it.
	rereadAfter = 100 * time.Millisecond
	// rereadRate is how many names per second are read because they changed.
	rereadRate = 2000
	// rereadBatch is how many of them are read between two pauses.
	rereadBatch = 64
	// maxRereads bounds the changed names that wait to be read. Limit: others are read when they are
	// asked for.
	maxRereads = 1 << 14
)

// rereader reads what changed again although nobody asks: only a list that was fresh until a push has
// a grace for torn writes, and a snapshot holds what was read last. Cache.mu guards it.
type rereader struct {
	queue  []changedName // the oldest first
	queued map[changedKey]struct{}
	wakeup chan struct{} // capacity 1: the queue is not empty any more; immutable
}

// changedKey is what changed: the list of a name, or its hash in a family.
type changedKey struct {
	name   string
	isHash bool
	family family
}

type changedName struct {
	changedKey
	due int64
}

func newRereader() *rereader {
	return &rereader{queued: map[changedKey]struct{}{}, wakeup: make(chan struct{}, 1)}
}

// rereadSoon notes that what is known under a key has changed. mu is held.
func (c *Cache) rereadSoon(key changedKey) {
	r := c.rereads
	if _, ok := r.queued[key]; ok || c.o.TornWriteGrace <= 0 {
		return
	}
	if len(r.queue) >= maxRereads {
		c.m.rereadsDropped.Inc()
		return
	}
	r.queued[key] = struct{}{}
	r.queue = append(r.queue, changedName{key, c.now() + int64(min(rereadAfter, c.o.TornWriteGrace/2))})
	if len(r.queue) == 1 {
		select {
		case r.wakeup <- struct{}{}:
		default:
		}
	}
}

// take removes what is due, a batch at most. mu is held.
func (r *rereader) take(now int64) (due []changedKey) {
	for len(due) < rereadBatch && len(r.queue) > 0 && r.queue[0].due <= now {
		key := r.queue[0].changedKey
		delete(r.queued, key)
		r.queue = r.queue[1:]
		due = append(due, key)
	}
	if len(r.queue) == 0 {
		r.queue = nil
	}
	return due
}

// runRereads reads what changed, until ctx ends.
func (c *Cache) runRereads(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		now, wait := c.now(), time.Hour
		due := c.rereads.take(now)
		if len(c.rereads.queue) > 0 {
			wait = time.Duration(c.rereads.queue[0].due - now)
		}
		c.mu.Unlock()
		if len(due) == 0 {
			c.awaitChanges(ctx, wait)
			continue
		}
		begin := time.Now()
		if n := c.readChanged(due); n > 0 {
			c.m.sweptChange.Add(n)
			rest(ctx, time.Duration(n)*time.Second/rereadRate-time.Since(begin))
		}
	}
}

// awaitChanges returns after d, or when the queue is not empty any more.
func (c *Cache) awaitChanges(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.rereads.wakeup:
	}
}

// readChanged reads those names that are still known to be outdated, and returns how many. While the
// watch is down that is none: all are read when it is back.
func (c *Cache) readChanged(keys []changedKey) (read int) {
	if c.epoch.Load()&1 == 0 {
		return 0
	}
	var entries []*entry
	for _, key := range keys {
		if key.isHash {
			read += count(c.tables()[key.family].reread(key.name))
		} else if e := c.table.findString(key.name); e != nil && e.value.Load().epoch == 0 {
			entries = append(entries, e)
		}
	}
	c.rereadAll(entries, ageFlights)
	return read + len(entries)
}

// reread reads a name whose content is known to be outdated, and tells whether it is one.
func (t *hashTable[T]) reread(name string) bool {
	t.c.mu.Lock()
	h := t.present[name]
	outdated := h != nil && h.epoch == 0
	t.c.mu.Unlock()
	if !outdated {
		return false
	}
	begin := time.Now()
	if f, err := t.ask(name, begin.Add(fetchTimeout), func() bool { return true }); err == nil {
		_ = f.await(begin) // What could not be read stays outdated.
	}
	return true
}
