package cache

import (
	"context"
	"errors"
	"time"
)

const (
	// maxIndexed bounds the names of a family that are followed. Limit: beyond it each name is asked
	// for.
	maxIndexed = 1 << 20
	// indexPause is the least time between two walks through the keys of the store.
	indexPause = time.Second
	// indexTimeout bounds one walk.
	indexTimeout = time.Minute
)

// nameIndex knows the names of a family: one that it lacks does not exist, one that it holds may. So
// whoever uses no policies pays no read for their absence, and a flood of random server names none
// either. It is guarded by Cache.mu.
type nameIndex struct {
	epoch   uint64 // in which it is complete; 0: it is not
	names   map[string]struct{}
	growing map[string]struct{} // by a walk that is under way; nil: there is none
}

// lacks tells whether there is no such name for certain.
func (x *nameIndex) lacks(name string, epoch uint64) bool {
	if x.epoch != epoch {
		return false
	}
	_, ok := x.names[name]
	return !ok
}

// complete tells whether the index knows all names: one that fresh lets through is then among them.
func (x *nameIndex) complete(epoch uint64) bool { return x.epoch == epoch }

// empty tells whether there is no name at all.
func (x *nameIndex) empty(epoch uint64) bool { return x.epoch == epoch && len(x.names) == 0 }

// add notes a name that was announced.
func (x *nameIndex) add(name string) {
	if x.growing != nil {
		x.growing[name] = struct{}{}
	}
	if x.names != nil {
		x.names[name] = struct{}{}
	}
	if len(x.names) > maxIndexed || len(x.growing) > maxIndexed {
		*x = nameIndex{}
	}
}

// remove notes that the store has a name no more.
func (x *nameIndex) remove(name string) {
	// The walk may come by before or after: what it finds stays.
	if x.growing == nil {
		delete(x.names, name)
	}
}

// indexed is what all tables of hashes do for their index. Cache.mu is held, but where it is said.
type indexed interface {
	nameIndex() *nameIndex
	// changed marks what depends on a name.
	changed(name string)
	// prune forgets what the index, which is complete, says does not exist any more.
	prune()
	// reread reads a name whose content is known to be outdated, and tells whether it is one. mu is not held.
	reread(name string) bool
}

func (t *hashTable[T]) nameIndex() *nameIndex { return &t.index }

func (t *hashTable[T]) prune() {
	now := t.c.now()
	torn := now - int64(t.c.o.TornWriteGrace)
	for name, h := range t.present {
		_, ok := t.index.names[name]
		if outdated := h.epoch != t.index.epoch && t.tornSince(h) < torn; !ok && (outdated || now >= h.until) {
			delete(t.present, name)
			t.c.noteHashChange(t.family)
		}
	}
}

// tables returns the tables of hashes by family.
func (c *Cache) tables() [families]indexed {
	return [families]indexed{certificateFamily: c.certificates, policyFamily: c.policies}
}

// runIndex keeps the indexes complete until ctx ends: it walks through the keys of the store when the
// watch begins to stand and, because some changes are never announced, once per MaxAge. A server that
// allows no walk is asked no sooner; one that cannot answer just now is.
func (c *Cache) runIndex(ctx context.Context) {
	var last time.Time
	for ctx.Err() == nil {
		rest(ctx, indexPause-time.Since(last))
		epoch := c.epoch.Load()
		wait := c.o.MaxAge
		if epoch&1 == 1 {
			last = time.Now()
			if c.isFlushing() {
				wait = min(wait, c.o.TornWriteGrace) // What a flush took away and nobody asks for is forgotten then.
			}
			err := c.buildIndex(ctx, epoch)
			if err != nil && !errors.Is(err, errNoNames) && (!isReply(err) || passes(err)) {
				wait = min(wait, indexPause)
			}
		}
		c.awaitEpoch(ctx, epoch, wait)
	}
}

// isFlushing tells whether what a flush took away may still serve.
func (c *Cache) isFlushing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush.at != 0 && c.now() < c.flush.at+int64(c.o.TornWriteGrace)
}

// awaitEpoch waits until the epoch is another one, for d at most.
func (c *Cache) awaitEpoch(ctx context.Context, epoch uint64, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for c.epoch.Load() == epoch {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-c.newEpoch:
		}
	}
}

// buildIndex walks through the keys of the store once.
func (c *Cache) buildIndex(ctx context.Context, epoch uint64) error {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	tables := c.tables()
	// Before the walk: what comes into being during it is announced, and then added.
	c.mu.Lock()
	for _, t := range tables {
		t.nameIndex().growing = map[string]struct{}{}
	}
	c.mu.Unlock()
	err := c.store.names(ctx, func(f family, name string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		x := tables[f].nameIndex()
		if x.growing == nil {
			return nil
		}
		if x.growing[name] = struct{}{}; len(x.growing) > maxIndexed {
			x.growing = nil
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tables {
		x := t.nameIndex()
		built, before, known := x.growing, x.names, x.epoch == epoch
		x.growing = nil
		if err != nil || built == nil || c.epoch.Load() != epoch {
			continue
		}
		x.names, x.epoch = built, epoch
		for name := range built {
			if _, ok := before[name]; known && !ok {
				t.changed(name) // It came into being unannounced.
			}
		}
		t.prune() // A snapshot would go on telling of them, and of their keys.
	}
	return err
}
