package cache

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sweepRate is how many names per second are read again after an outage. What is promised is
	// 20 000; the rest makes up for the ends of the batches.
	sweepRate = 25_000
	// sweepFlights bounds the reads of a sweep in flight: the other half of maxFlights stays free
	// for lookups.
	sweepFlights = maxFlights / 2
	// ageRate is how many names per second are read again because of their age alone.
	ageRate = 5_000
	// ageFlights bounds the reads in flight because of age.
	ageFlights = 8
	// sweepBatch is how many names are looked at between two pauses.
	sweepBatch = 512
	// agePasses is how many times per MaxAge all names are looked at for those that are due.
	agePasses = 10
	// minAgePass bounds how often that is, for a MaxAge of next to nothing.
	minAgePass = 100 * time.Millisecond
	// sweepRetry is the pause before names that could not be read are tried again.
	sweepRetry = 100 * time.Millisecond
)

// sweeper reads names again that nobody asks for: all of them when the store is back after changes
// may have been missed, and each one when it is old, since some changes are never announced.
type sweeper struct {
	c      *Cache
	wakeup chan struct{} // capacity 1: since has changed

	since   atomic.Uint64 // what was read in an earlier epoch is to be read again
	flushed int64         // when a flush last called for a sweep, 0 if never; guarded by Cache.mu
	pending atomic.Int64  // names that the present sweep has not looked at yet
	rate    atomic.Uint64 // reads per second of the last sweep, as the bits of a float64
}

func newSweeper(c *Cache) *sweeper { return &sweeper{c: c, wakeup: make(chan struct{}, 1)} }

// call has everything read again that is older than an epoch that has begun.
func (s *sweeper) call(epoch uint64) {
	s.since.Store(epoch)
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// callAfterFlush is call, at most once per MaxAge: a store that cannot push says every second that
// everything may have changed. What is left out is read on its next use, or when it is old. Cache.mu
// is held.
func (s *sweeper) callAfterFlush(epoch uint64, now int64) {
	if s.flushed == 0 || now-s.flushed >= int64(s.c.o.MaxAge) {
		s.flushed = now
		s.call(epoch)
	}
}

// run sweeps once per call, until ctx ends.
func (s *sweeper) run(ctx context.Context) {
	for done := uint64(0); ctx.Err() == nil; {
		if since := s.since.Load(); since != done {
			done = since
			s.renew(ctx, since)
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wakeup:
		}
	}
}

// renew reads everything that is older than the epoch since, unless the store goes away or a later
// call takes over.
func (s *sweeper) renew(ctx context.Context, since uint64) {
	defer s.pending.Store(0)
	begin, reads := time.Now(), 0
	for failed := 1; failed > 0; {
		failed = 0
		for _, kind := range [...]spaceKind{exactSpace, derivedSpace} {
			walk := walk{c: s.c, kind: kind}
			for batch := walk.next(sweepBatch); batch != nil; batch = walk.next(sweepBatch) {
				if s.c.epoch.Load()&1 == 0 || s.since.Load() != since || ctx.Err() != nil {
					return
				}
				s.pending.Store(int64(walk.left))
				start := time.Now()
				due := s.due(batch, func(v *value) bool { return v.epoch < since })
				failed += s.c.rereadAll(due, sweepFlights)
				reads += len(due)
				s.c.m.sweptOutage.Add(len(due))
				rest(ctx, time.Duration(len(due))*time.Second/sweepRate-time.Since(start))
			}
		}
		if failed > 0 {
			rest(ctx, sweepRetry)
		}
	}
	if reads > 0 {
		s.rate.Store(math.Float64bits(float64(reads) / time.Since(begin).Seconds()))
	}
}

// due keeps of a batch what must be read.
func (s *sweeper) due(batch []*entry, old func(*value) bool) []*entry {
	due := batch[:0]
	for _, e := range batch {
		if old(e.value.Load()) {
			due = append(due, e)
		}
	}
	return due
}

// runAge keeps names that nobody asks for from growing older than ageBound, until ctx ends.
func (s *sweeper) runAge(ctx context.Context) {
	for ctx.Err() == nil {
		if s.c.epoch.Load()&1 == 0 {
			rest(ctx, minAgePass)
			continue
		}
		total := max(s.c.count(exactSpace)+s.c.count(derivedSpace), 1)
		left := s.agePass()
		for _, kind := range [...]spaceKind{exactSpace, derivedSpace} {
			walk := walk{c: s.c, kind: kind}
			for batch := walk.next(sweepBatch); batch != nil && ctx.Err() == nil; batch = walk.next(sweepBatch) {
				share := s.agePass() * time.Duration(len(batch)) / time.Duration(total)
				left -= share
				now := tickOf(s.c.now())
				due := s.due(batch, func(v *value) bool { return now >= v.soft || v.epoch == 0 })
				if s.c.epoch.Load()&1 == 1 {
					s.c.rereadAll(due, ageFlights)
					s.c.m.sweptAge.Add(len(due))
				}
				rest(ctx, max(share, time.Duration(len(due))*time.Second/ageRate))
			}
		}
		rest(ctx, left)
	}
}

// agePass is how long one look at all names takes if few are due.
func (s *sweeper) agePass() time.Duration { return max(s.c.o.MaxAge/agePasses, minAgePass) }

// ageBound returns in seconds the greatest age of what the table says while the watch is up:
// MaxAge with its jitter, and the time until the name's turn comes.
func (s *sweeper) ageBound() float64 {
	names := float64(s.c.count(exactSpace) + s.c.count(derivedSpace))
	return 1.1*s.c.o.MaxAge.Seconds() + max(s.agePass().Seconds(), names/ageRate)
}

// count returns the number of entries in a space.
func (c *Cache) count(kind spaceKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spaces[kind].members)
}

// rereadAll reads entries again, at most limit of them at a time, and returns how many could not be
// read.
func (c *Cache) rereadAll(entries []*entry, limit int) (failed int) {
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range min(limit, len(entries)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(entries)); i = next.Add(1) - 1 {
				if !c.reread(entries[i]) {
					failures.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return int(failures.Load())
}

// reread reads what the store says about e and, if it has no list or its policy is not known, finds
// anew what answers for it.
func (c *Cache) reread(e *entry) bool {
	deadline := time.Now().Add(fetchTimeout)
	if !c.awaitSlot(deadline) {
		return false
	}
	f := c.relaunch(e)
	if f == nil {
		return true
	}
	// It ends by itself, and until then holds a slot that counts as the sweep's.
	<-f.done
	err := f.err
	if err == nil && !e.isWildcard() && (f.result.value.frontend == nil || f.result.value.gen != c.rules.Load()) {
		deadline = time.Now().Add(fetchTimeout)
		// That it has no list at all is an answer, too.
		if _, err = c.resolve(e.name(), false, deadline); errors.Is(err, ErrUnknownHost) {
			err = nil
		}
	}
	return err == nil
}

// relaunch returns a flight for e with the slot that the caller has taken, or one that is on its
// way; nil if e has left the table or the cache is closed.
func (c *Cache) relaunch(e *entry) *flight[settled] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table.findString(e.name()) != e || c.lifetime.Err() != nil {
		<-c.slots
		return nil
	}
	if f := c.flights.joinable(e.name(), c.epoch.Load()); f != nil {
		<-c.slots
		return f
	}
	return c.launch(e.name())
}
