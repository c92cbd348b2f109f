package cache

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// maxPendingMarks bounds the marks that wait to be written.
	maxPendingMarks = 4096
	// markHold is how long a local mark holds after the store acknowledged it; by then the store's
	// own announcement has come, and from there on a checker's SREM counts.
	markHold = int64(time.Second)
	// checkedHold is the life of a local mark while an active checker decides.
	checkedHold = int64(10 * time.Second)
	// markTimeout bounds one attempt to write a mark.
	markTimeout = 500 * time.Millisecond
	// checkerTTL is the age of hchecker_ping up to which the checker counts as alive.
	// Hipache: lib/cache.js.
	checkerTTL = 30 * time.Second
	// checkerInterval is how often hchecker_ping is read.
	checkerInterval = time.Second
)

// mark names one dead backend, in the words that the store needs.
type mark struct {
	host  string // as requested: names the dead set
	key   string // the list that matched
	url   string // the element as stored
	id    int
	count int // backends in the list
}

// text is the message that announces m. Hipache: lib/cache.js.
func (m *mark) text() string {
	return m.host + ";" + m.url + ";" + strconv.Itoa(m.id) + ";" + strconv.Itoa(m.count)
}

// markSet holds the local marks of one list; it counts for all hosts that the list answers for. It
// is immutable.
type markSet struct{ marks []localMark }

type localMark struct {
	url   string
	id    int
	until int64
}

// has tells whether backend i of f is marked; s may be nil.
func (s *markSet) has(f *Frontend, i int, now int64) bool {
	if s == nil {
		return false
	}
	for _, m := range s.marks {
		if now < m.until && f.names(i, m.url, m.id) {
			return true
		}
	}
	return false
}

// alive returns s, or nil if all of its marks have ended; s may be nil.
func (s *markSet) alive(now int64) *markSet {
	if s != nil && slices.ContainsFunc(s.marks, func(m localMark) bool { return now < m.until }) {
		return s
	}
	return nil
}

// with returns s with m in place of the mark of the same backend, without what has ended.
func (s *markSet) with(m localMark, now int64) *markSet {
	w := &markSet{marks: []localMark{m}}
	if s != nil {
		for _, other := range s.marks {
			if now < other.until && (other.url != m.url || other.id != m.id) {
				w.marks = append(w.marks, other)
			}
		}
	}
	return w
}

// MarkDead reports that backend i of r failed. The mark counts at once for every host that r's list
// answers for; it is written to the store and announced in the background, as soon as the store can
// be reached and if the list still has that backend at its place. A frontend with one backend is
// never marked. MarkDead tells whether this is news: other reports of the same failure are on their
// way to the store or were acknowledged just now. It never blocks on I/O.
func (c *Cache) MarkDead(r *Route, i int) bool {
	f := r.frontend
	if f == nil || len(f.Backends) < 2 || i < 0 || i >= len(f.Backends) {
		return false
	}
	now := c.now()
	p := pendingMark{
		mark:  mark{host: r.host.name(), key: f.Key, url: f.Backends[i].URL, id: i, count: len(f.Backends)},
		owner: r.owner,
		made:  now,
		until: now + int64(c.o.DeadTTL),
		held:  make(chan struct{}),
	}
	if c.CheckerAlive() {
		p.until = now + checkedHold
	}
	defer close(p.held)
	switch c.marker.enqueue(p, now) {
	case markRepeated:
		return false
	case markFull:
		c.m.marks[resultDropped].Inc()
	case markQueued:
	}
	c.m.marks[resultLocal].Inc()
	c.holdMark(&p, p.until)
	return true
}

// holdMark makes the local mark of p last until the given time.
func (c *Cache) holdMark(p *pendingMark, until int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := localMark{url: p.mark.url, id: p.mark.id, until: until}
	v := *p.owner.value.Load()
	v.marks = v.marks.with(m, c.now())
	p.owner.value.Store(&v)
}

// CheckerAlive tells whether an external active checker gave a sign of life in the last 30 s.
func (c *Cache) CheckerAlive() bool { return checkerAlive(c.checked.Load()) }

func checkerAlive(unixSeconds int64) bool {
	return unixSeconds > 0 && time.Since(time.Unix(unixSeconds, 0)) <= checkerTTL
}

// watchChecker keeps what CheckerAlive answers from up to date.
func (c *Cache) watchChecker(ctx context.Context) {
	tick := time.NewTicker(checkerInterval)
	defer tick.Stop()
	for {
		readCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
		if seen, err := c.store.checker(readCtx); err == nil {
			c.checked.Store(seen)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pendingMark is a mark on its way to the store.
type pendingMark struct {
	mark  mark
	owner *entry
	made  int64
	until int64 // not worth writing from here on
	// held is closed when the local mark stands; the store's acknowledgement, which shortens that,
	// must not come before.
	held chan struct{}
}

// enqueued says what became of a mark handed to a marker.
type enqueued uint8

const (
	markQueued enqueued = iota
	markRepeated
	markFull
)

// Label values of sluice_route_marks_total.
const (
	resultLocal = iota
	resultWritten
	resultPublished
	resultMoved
	resultDropped
	markResults
)

var markResultNames = [markResults]string{"local", "written", "published", "moved", "dropped"}

// marker writes marks, one after the other, on one goroutine.
type marker struct {
	c    *Cache
	rung chan struct{} // capacity 1: there may be something to do
	// blockedAt is when a store that answers reads began to refuse marks, 0 while it takes them; run's own.
	blockedAt int64

	mu      sync.Mutex // guards what follows
	queue   []pendingMark
	pending map[mark]struct{}
	acked   map[mark]int64 // marks that the store acknowledged less than markHold ago
}

func newMarker(c *Cache) *marker {
	return &marker{c: c, rung: make(chan struct{}, 1), pending: map[mark]struct{}{}, acked: map[mark]int64{}}
}

func (k *marker) wake() {
	select {
	case k.rung <- struct{}{}:
	default:
	}
}

func (k *marker) enqueue(p pendingMark, now int64) enqueued {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.pending[p.mark]; ok {
		return markRepeated
	}
	if at, ok := k.acked[p.mark]; ok && now < at+markHold {
		return markRepeated
	}
	if len(k.queue) >= maxPendingMarks {
		return markFull
	}
	k.queue = append(k.queue, p)
	k.pending[p.mark] = struct{}{}
	k.wake()
	return markQueued
}

// first returns the mark to write next.
func (k *marker) first() (pendingMark, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		return pendingMark{}, false
	}
	return k.queue[0], true
}

// done takes the first mark out of the queue; acked tells that the store has it.
func (k *marker) done(acked bool, now int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.queue[0]
	k.queue = slices.Delete(k.queue, 0, 1)
	delete(k.pending, p.mark)
	for m, at := range k.acked {
		if now >= at+markHold {
			delete(k.acked, m)
		}
	}
	if acked {
		k.acked[p.mark] = now
	}
}

// postpone puts the first mark behind all others.
func (k *marker) postpone() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = append(k.queue[1:], k.queue[0])
}

// length returns how many marks wait.
func (k *marker) length() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.queue)
}

// run writes marks until ctx ends. While the store is away it tries once a second, and at once when
// the store comes back.
func (k *marker) run(ctx context.Context) {
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		k.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.rung:
		case <-retry.C:
		}
	}
}

// round tries each mark once. When all of the store is away it ends with the first; when a part of
// it is, such as one master of a Cluster, the marks for the rest must not wait for that.
func (k *marker) round(ctx context.Context) {
	for n := k.length(); n > 0 && ctx.Err() == nil; n-- {
		p, ok := k.first()
		if !ok {
			return
		}
		if k.write(ctx, p) {
			continue
		}
		if k.c.epoch.Load()&1 == 0 {
			return
		}
		k.postpone()
	}
}

// blocked logs that marks wait although the store answers reads: a master became a replica, or has
// no memory left. When all of the store is away, the log says so already.
func (k *marker) blocked(cause error, now int64) {
	if k.blockedAt == 0 && k.c.epoch.Load()&1 == 1 {
		k.blockedAt = now
		k.c.log.Warn("store takes no marks, they count here alone", "cause", cause)
	}
}

func (k *marker) unblocked(now int64) {
	if k.blockedAt != 0 {
		after := time.Duration(now - k.blockedAt).Round(time.Millisecond)
		k.c.log.Info("store takes marks again", "after", after.String(), "waiting", k.length())
		k.blockedAt = 0
	}
}

// write writes p and tells whether the queue can go on; false means that the store is away.
func (k *marker) write(ctx context.Context, p pendingMark) bool {
	c := k.c
	if c.now() >= p.until {
		c.m.marks[resultDropped].Inc()
		k.done(false, c.now())
		return true
	}
	<-p.held
	writeCtx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	outcome, err := c.store.mark(writeCtx, p.mark)
	now := c.now()
	if errors.Is(err, errDown) {
		k.blocked(err, now)
		return false
	}
	k.done(err == nil, now)
	if err == nil {
		k.unblocked(now)
	}
	if err != nil {
		c.m.marks[resultDropped].Inc()
		if c.notes.first("mark "+p.mark.host+" "+err.Error(), now) {
			c.log.Warn("mark was not written", "host", p.mark.host, "cause", err)
		}
		return true
	}
	switch outcome {
	case markWritten:
		c.m.marks[resultWritten].Inc()
		c.holdMark(&p, now+markHold)
	case markPublished:
		c.m.marks[resultPublished].Inc()
		c.holdMark(&p, p.made+checkedHold)
	case markMoved:
		c.m.marks[resultMoved].Inc()
	case markKept:
	}
	return true
}
