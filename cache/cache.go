package cache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout bounds one read of the store, and so the lookup of a name that is not known.
	fetchTimeout = 300 * time.Millisecond
	// refreshWait bounds the lookup of a known name that must be read again; then the old value
	// serves.
	refreshWait = 50 * time.Millisecond
	// maxFlights bounds the reads in flight, below the size of the client library's ring, beyond
	// which calls ignore their deadlines.
	maxFlights = 256
	// pushedSpan is how long a pushed name is exempt from the miss limits.
	pushedSpan = int64(60 * time.Second)
	// maxRecent bounds one generation of remembered pushes and announcements.
	maxRecent = 1 << 16
	// firstEpoch is that of the time before the first watch: even, and not 0, which marks values
	// that are known to be outdated.
	firstEpoch = 2
)

// Cache resolves host names to frontends. Create it with New.
type Cache struct {
	// Immutable after New.
	o     Options
	log   *slog.Logger
	m     *counters
	began time.Time
	store store
	table *table
	limit *missLimit
	// certLimit is limit for certificates: a flood of server names must not stop hosts from being
	// found, nor the reverse.
	certLimit *missLimit
	slots     chan struct{} // one per read in flight
	turns     pace          // of names that are not known
	marker    *marker
	notes     *notes
	// newEpoch tells the index, with a capacity of 1, that one has begun.
	newEpoch chan struct{}
	saved    *snapshot
	rereads  *rereader
	sweep    *sweeper

	validity
	// everyone is the policy of hosts without one of their own; never nil.
	everyone atomic.Pointer[Policy]
	ready    atomic.Bool
	// stalled tells that a read took longer than refreshWait, and that none has succeeded since.
	stalled atomic.Bool
	// changes counts what a snapshot would say otherwise than the one before.
	changes atomic.Uint64
	checked atomic.Int64 // unix seconds of the checker's last sign of life

	mu           sync.Mutex // guards what follows, and all changes of the table; never held over I/O
	spaces       [spaceKinds]space
	flights      flights[settled]
	pushed       *recent[struct{}]
	heard        *recent[announcement]
	certificates *hashTable[certificate]
	policies     *hashTable[Policy]
	// resolutions shares what names without a list resolved to.
	resolutions resolutions
	flush       flush
	outage      outage
	cancel      context.CancelFunc
	runs        sync.WaitGroup
	lifetime    context.Context
	closeOnce   sync.Once
}

// validity is what each hit reads besides its entry. It has a cache line of its own, so that what is
// written more often does not take it away from the other cores.
type validity struct {
	_ [64]byte
	// epoch is odd while the watch is up. A value is fresh only in the epoch it was read in.
	epoch atomic.Uint64
	// gen counts changes of wildcard lists. What a name without a list resolved to counts only in
	// the generation it was resolved in, so one change reaches any number of names at once.
	gen atomic.Uint32
	// rules counts changes of the policies of wildcards, in the same way, for names with a list. Those
	// of names without one are counted by gen as well.
	rules atomic.Uint32
	clock coarseClock
	laps  [spaceKinds]atomic.Uint32 // of each space
	_     [64]byte
}

// wildcardsChanged outdates what names without a list resolved to.
func (v *validity) wildcardsChanged() {
	if v.gen.Add(1) == 0 {
		v.gen.Add(1) // 0 means not resolved yet
	}
}

// rulesChanged outdates the policy of each name.
func (v *validity) rulesChanged() {
	if v.rules.Add(1) == 0 {
		v.rules.Add(1)
	}
	v.wildcardsChanged()
}

// flush remembers the last push that said "everything may have changed".
type flush struct {
	epoch uint64 // the epoch that it ended
	at    int64
}

// outage is the time since the watch went down.
type outage struct {
	since  int64
	logged bool
	// What staleDown and unavailable counted when it began.
	stale, refused uint64
}

// New checks the options and returns a Cache, which knows nothing until Start.
func New(o Options) (*Cache, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	c := &Cache{
		o:         o,
		log:       o.Log,
		began:     time.Now(),
		table:     newTable(),
		limit:     newMissLimit(o.MaxMissRate),
		certLimit: newMissLimit(o.MaxMissRate),
		newEpoch:  make(chan struct{}, 1),
		slots:     make(chan struct{}, maxFlights),
		notes:     newNotes(),
		rereads:   newRereader(),
		flights:   flights[settled]{},
		pushed:    newRecent[struct{}](pushedSpan, maxRecent),
		heard:     newRecent[announcement](pushedSpan, maxRecent),
	}
	c.epoch.Store(firstEpoch)
	c.gen.Store(1)
	c.clock.set(c.now())
	c.rules.Store(1)
	c.everyone.Store(newPolicy(nil, o.Policy, func(error) {})) // Options.check has seen that nothing is wrong.
	c.certificates = newHashTable(c, certificateFamily, o.MaxCertificates, c.parseCertificate)
	c.policies = newHashTable(c, policyFamily, o.MaxHosts, c.parsePolicy)
	c.policies.depends = c.policyChanged
	for kind := range c.spaces {
		c.spaces[kind].lap = &c.laps[kind]
	}
	c.spaces[exactSpace].limit = o.MaxHosts
	c.spaces[derivedSpace].limit = o.MaxDerivedHosts
	c.spaces[unknownSpace].limit = o.MaxUnknownHosts
	c.m = newCounters(o.Metrics, c)
	c.marker = newMarker(c)
	c.lifetime, c.cancel = context.WithCancel(context.Background())
	var err error
	if c.store, err = openStore(&c.o, c.m); err != nil {
		c.cancel()
		return nil, err
	}
	c.saved, c.sweep = newSnapshot(c), newSweeper(c)
	return c, nil
}

// Start loads the snapshot, if there is one, which takes about a second for half a million routes,
// and begins the background work, which ends with ctx or with Close. It does not wait for the
// store; an error means that waiting would not help, such as a routes
// file that does not exist. Call it once.
func (c *Cache) Start(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.cancel)
	context.AfterFunc(c.lifetime, func() { stop() })
	c.mu.Lock()
	c.outage.since = c.now()
	c.mu.Unlock()
	c.saved.load()
	if err := c.store.start(c.lifetime, c); err != nil {
		c.cancel()
		return err
	}
	c.runs.Go(func() { c.keepTime(c.lifetime) })
	c.runs.Go(func() { c.marker.run(c.lifetime) })
	c.runs.Go(func() { c.watchChecker(c.lifetime) })
	c.runs.Go(func() { c.runIndex(c.lifetime) })
	c.runs.Go(func() { c.sweep.run(c.lifetime) })
	c.runs.Go(func() { c.sweep.runAge(c.lifetime) })
	if c.o.TornWriteGrace > 0 {
		c.runs.Go(func() { c.runRereads(c.lifetime) })
	}
	if c.saved.path != "" {
		c.runs.Go(func() { c.saved.run(c.lifetime) })
	}
	return nil
}

// Close ends the background work, waits for it and brings the snapshot up to date. Lookups then answer
// from what is known.
func (c *Cache) Close() error {
	c.closeOnce.Do(func() {
		// Reads in flight begin under mu, so none can begin between here and the wait.
		c.mu.Lock()
		c.cancel()
		c.mu.Unlock()
		c.store.close()
		c.runs.Wait()
		c.saved.save(context.Background(), 1)
	})
	return nil
}

// Ready tells whether the store answered once, or the routes file or a snapshot was loaded. It never turns back:
// a store that went away later does not make a full cache useless.
func (c *Cache) Ready() bool { return c.ready.Load() }

// Ping asks the store for one sign of life within ctx's deadline.
func (c *Cache) Ping(ctx context.Context) error { return c.store.ping(ctx) }

// now returns the nanoseconds since a second before New, by the monotonic clock.
func (c *Cache) now() int64 { return int64(time.Since(c.began)) + int64(time.Second) }
