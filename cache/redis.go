package cache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// connectGrace is how long a read waits for a connection after one was lost. Beyond it reads fail
// at once until there is one.
const connectGrace = fetchTimeout

// redisStore is a Redis server, a replica beside a master, or a master behind Sentinels. Per node
// there is one client, with one connection for reads and marks and one for the watch, so that a
// huge reply delays no push. Reads and the watch are always on the same node.
type redisStore struct {
	redisWatcher

	// Immutable.
	reads     *node // replica, or the only node
	writes    *node // master, or the only node
	sentinels *sentinels
	// maxSilence is maxReplicaSilence; tests have less time.
	maxSilence time.Duration

	current atomic.Pointer[link] // serves reads; nil while none can

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed and replaced when current changes
	lostAt  time.Time     // when current became nil
}

func newRedisStore(drivers []driver, o *Options, m *counters) *redisStore {
	s := &redisStore{
		redisWatcher: newRedisWatcher(&drivers[0], o, m), maxSilence: maxReplicaSilence, changed: make(chan struct{}),
	}
	s.reads = s.newNode(&drivers[0])
	s.writes = s.reads
	if len(drivers) > 1 {
		s.writes = s.newNode(&drivers[1])
	}
	return s
}

// newNode makes the node of a driver. Where one behind Sentinels is, they say later.
func (s *redisStore) newNode(d *driver) *node {
	if d.topology != sentinelMaster {
		return newNode(d, d.addresses[0])
	}
	n := newNode(d, "")
	s.sentinels = newSentinels(d, n, s.log)
	return n
}

// hasReplica tells whether reads normally go elsewhere than writes.
func (s *redisStore) hasReplica() bool { return s.reads != s.writes }

func (s *redisStore) start(ctx context.Context, to sink) error {
	s.to = to
	s.lostAt = time.Now()
	if s.sentinels != nil {
		s.runs.Go(func() { s.sentinels.follow(ctx) })
	}
	s.runs.Go(func() {
		if s.sentinels != nil {
			awaitChange(ctx, s.sentinels.begun, sentinelTimeout)
		}
		s.supervise(ctx)
	})
	return nil
}

func (s *redisStore) close() {
	s.runs.Wait()
	s.reads.close()
	s.writes.close()
}

// setCurrent makes l what reads go through; nil means that they cannot.
func (s *redisStore) setCurrent(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.current.Swap(l); was != nil && l == nil {
		s.lostAt = time.Now()
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// reader returns what serves reads. Shortly after a loss it waits for the next.
func (s *redisStore) reader(ctx context.Context) (*link, error) {
	for {
		s.mu.Lock()
		l, changed, left := s.current.Load(), s.changed, time.Until(s.lostAt.Add(connectGrace))
		s.mu.Unlock()
		if l != nil {
			return l, nil
		}
		if left <= 0 || !awaitChange(ctx, changed, left) {
			return nil, errDown
		}
	}
}

// awaitChange waits for changed to be closed, at most for d; false means that ctx ended first.
func awaitChange(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *redisStore) read(ctx context.Context, name string, wantDead bool) (r reading, err error) {
	err = s.attempt(ctx, func(l *link) (err error) {
		r, err = s.readOnce(ctx, l, name, wantDead)
		return err
	})
	return r, err
}

// attempt performs one round trip, and again if it found a connection lost.
func (s *redisStore) attempt(ctx context.Context, read func(*link) error) error {
	for attempt := 0; ; attempt++ {
		l, err := s.reader(ctx)
		if err != nil {
			s.m.storeError("down")
			return err
		}
		start := time.Now()
		err = read(l)
		s.m.roundTrip.Update(time.Since(start))
		if err == nil {
			return nil
		}
		s.m.storeError(errorCause(err))
		// A connection that was lost since the last read says so only now; the next use dials.
		if attempt > 0 || ctx.Err() != nil || isReply(err) {
			return err
		}
	}
}

// readOnce reads one name in one round trip.
func (s *redisStore) readOnce(ctx context.Context, l *link, name string, wantDead bool) (r reading, err error) {
	pairs := append(make([]pair, 0, 2), s.listPair(l, name))
	if wantDead {
		pairs = append(pairs, s.deadPair(l, name))
	}
	replies := l.ask(ctx, pairs...)
	if err = s.parseList(replies[0], &r); err == nil && wantDead {
		err = parseDead(replies[1], &r)
	}
	if err == nil && l.doubtful && len(r.list) == 0 && r.broken == nil {
		err = s.believeAbsent(ctx)
	}
	return r, err
}

// believeAbsent tells why the replica's word that there is no list counts for nothing: until it was
// in step with its master once, it does not know what exists. It is asked after the reading, in case
// it was started anew just now.
func (s *redisStore) believeAbsent(ctx context.Context) error {
	if s.replicaState(ctx) < replicaOutside {
		return errDown
	}
	return nil
}

func (s *redisStore) checker(ctx context.Context) (int64, error) {
	l, err := s.reader(ctx)
	if err != nil {
		return 0, err
	}
	return checkerSeen(l.client.Do(ctx, l.client.B().Get().Key(checkerKey).Build()))
}

func (s *redisStore) ping(ctx context.Context) error {
	l, err := s.reader(ctx)
	if err == nil {
		err = l.client.Do(ctx, l.client.B().Ping().Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

func (s *redisStore) mark(ctx context.Context, m mark) (markOutcome, error) {
	client, err := s.writes.connected()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errDown, err)
	}
	return s.markOn(ctx, markTargets{list: client, dead: client, checker: client}, m)
}
