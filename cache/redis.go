package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	dialTimeout = time.Second
	// pingGap and pingTimeout bound how long a frozen server goes unnoticed: their sum.
	pingGap     = 250 * time.Millisecond
	pingTimeout = 500 * time.Millisecond
	// connectGrace is how long a read waits for a connection after one was lost. Beyond it reads
	// fail at once until there is one.
	connectGrace = fetchTimeout
)

// Keys and the channel that do not take the prefix. Hipache: lib/cache.js.
const (
	deadKey     = "dead:"
	deadChannel = "dead"
	checkerKey  = "hchecker_ping"
)

// redisStore is a Redis server, or a replica beside a master. Per node there is one client, with
// one connection for reads and marks and one for the watch, so that a huge reply delays no push.
// Reads and the watch are always on the same node.
type redisStore struct {
	// Immutable.
	drivers []driver
	prefix  string
	o       *Options
	log     *slog.Logger
	m       *counters
	reads   *node // replica, or the only node
	writes  *node // master, or the only node
	runs    sync.WaitGroup
	to      sink

	current atomic.Pointer[node] // serves reads; nil while none can

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed and replaced when current changes
	lostAt  time.Time     // when current became nil
}

func newRedisStore(drivers []driver, o *Options, m *counters) *redisStore {
	s := &redisStore{
		drivers: drivers,
		prefix:  drivers[0].prefix,
		o:       o,
		log:     o.Log,
		m:       m,
		changed: make(chan struct{}),
	}
	s.reads = newNode(&drivers[0])
	s.writes = s.reads
	if len(drivers) > 1 {
		s.writes = newNode(&drivers[1])
	}
	return s
}

// hasReplica tells whether reads normally go elsewhere than writes.
func (s *redisStore) hasReplica() bool { return s.reads != s.writes }

func (s *redisStore) start(ctx context.Context, to sink) error {
	s.to = to
	s.lostAt = time.Now()
	s.runs.Go(func() { s.supervise(ctx) })
	return nil
}

func (s *redisStore) close() {
	s.runs.Wait()
	s.reads.close()
	s.writes.close()
}

// node is one Redis server. Its client connects when it is first used and again, lazily, after a
// loss.
type node struct {
	driver *driver

	mu     sync.Mutex // guards what follows
	client rueidis.Client
	closed bool
}

func newNode(d *driver) *node { return &node{driver: d} }

// connected returns the node's client, which may have lost its connection. The first call dials.
func (n *node) connected() (rueidis.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errDown
	}
	if n.client != nil {
		return n.client, nil
	}
	client, err := rueidis.NewClient(n.options())
	if client == nil || err != nil {
		if client != nil {
			client.Close()
		}
		return nil, fmt.Errorf("connect to %s: %w", n.driver.address, err)
	}
	n.client = client
	return client, nil
}

func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.client != nil {
		n.client.Close()
	}
}

// options are those of one pipelined connection without the library's cache and retries: its retry
// races with its writer, and its cache is slower than the table.
func (n *node) options() rueidis.ClientOption {
	d := n.driver
	o := rueidis.ClientOption{
		InitAddress:         []string{d.address},
		Username:            d.user,
		Password:            d.password,
		SelectDB:            d.database,
		TLSConfig:           d.tls,
		ForceSingleClient:   true,
		PipelineMultiplex:   -1,
		DisableRetry:        true,
		DisableCache:        true,
		Dialer:              net.Dialer{Timeout: dialTimeout, KeepAlive: pingGap},
		ConnWriteTimeout:    pingTimeout,
		ClientName:          "sluice",
		ClientSetInfo:       rueidis.DisableClientSetInfo,
		RingScaleEachConn:   10,
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
	}
	if d.network == "unix" {
		o.DialCtxFn = func(ctx context.Context, address string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", address)
		}
	}
	return o
}

// setCurrent makes n the node that serves reads; nil means that none can.
func (s *redisStore) setCurrent(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.current.Swap(n); was != nil && n == nil {
		s.lostAt = time.Now()
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// reader returns the client that serves reads. Shortly after a loss it waits for the next one.
func (s *redisStore) reader(ctx context.Context) (rueidis.Client, error) {
	for {
		s.mu.Lock()
		n, changed, left := s.current.Load(), s.changed, time.Until(s.lostAt.Add(connectGrace))
		s.mu.Unlock()
		if n != nil {
			return n.connected()
		}
		if left <= 0 {
			return nil, errDown
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errDown
		}
		timer.Stop()
	}
}

func (s *redisStore) read(ctx context.Context, name string, wantDead bool) (reading, error) {
	for attempt := 0; ; attempt++ {
		client, err := s.reader(ctx)
		if err != nil {
			s.m.storeError("down")
			return reading{}, err
		}
		start := time.Now()
		r, err := s.readOnce(ctx, client, name, wantDead)
		s.m.roundTrip.Update(time.Since(start))
		if err == nil {
			return r, nil
		}
		s.m.storeError(errorCause(err))
		// A connection that was lost since the last read says so only now; the next use dials.
		if attempt > 0 || ctx.Err() != nil || isReply(err) {
			return reading{}, err
		}
	}
}

// readOnce reads one name in one round trip. The commands need not be atomic: a change between them
// is announced and makes the reading void.
func (s *redisStore) readOnce(ctx context.Context, client rueidis.Client, name string, wantDead bool) (reading, error) {
	key := s.prefix + frontendKey + name
	commands := make(rueidis.Commands, 0, 4)
	commands = append(commands,
		// One more than allowed, to see that the list is longer.
		client.B().Lrange().Key(key).Start(0).Stop(int64(s.o.MaxBackends)+1).Build(),
		client.B().Pttl().Key(key).Build())
	if wantDead {
		dead := s.prefix + deadKey + name
		commands = append(commands,
			client.B().Smembers().Key(dead).Build(),
			client.B().Pttl().Key(dead).Build())
	}
	replies := client.DoMulti(ctx, commands...)
	var r reading
	var err error
	if r.list, err = replies[0].AsStrSlice(); err != nil {
		if !isWrongType(err) {
			return r, err
		}
		r.broken = errWrongType
	}
	if r.listTTL, err = ttl(replies[1]); err != nil {
		return r, err
	}
	if limit := s.o.MaxBackends + 1; len(r.list) > limit {
		r.list, r.cut = r.list[:limit], true
	}
	if !wantDead {
		return r, nil
	}
	if r.dead, err = replies[2].AsStrSlice(); err != nil {
		if !isWrongType(err) {
			return r, err
		}
		r.deadBroken = errWrongType
	}
	r.deadTTL, err = ttl(replies[3])
	return r, err
}

// ttl reads a PTTL reply; a key without an end and no key are both 0.
func ttl(reply rueidis.RedisResult) (time.Duration, error) {
	ms, err := reply.AsInt64()
	if err != nil || ms < 0 {
		return 0, err
	}
	// A key in its last millisecond answers 0, which would mean that it never ends.
	return time.Duration(max(ms, 1)) * time.Millisecond, nil
}

func (s *redisStore) checker(ctx context.Context) (int64, error) {
	client, err := s.reader(ctx)
	if err != nil {
		return 0, err
	}
	return checkerSeen(client.Do(ctx, client.B().Get().Key(checkerKey).Build()))
}

// checkerSeen reads the value of hchecker_ping; what is not a number counts as never.
func checkerSeen(reply rueidis.RedisResult) (int64, error) {
	text, err := reply.ToString()
	if rueidis.IsRedisNil(err) || isWrongType(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The checker may write fractions of a second.
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, nil //nolint:nilerr // a foreign value means that no checker is known
	}
	return int64(seconds), nil
}

func (s *redisStore) ping(ctx context.Context) error {
	client, err := s.reader(ctx)
	if err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// errWrongType is a key that holds another type than its name promises.
var errWrongType = errors.New("key is of the wrong type")

// isReply tells whether err is an answer of the server, as opposed to a lost connection.
func isReply(err error) bool {
	_, ok := rueidis.IsRedisErr(err)
	return ok
}

func isWrongType(err error) bool { return hasReplyCode(err, "WRONGTYPE") }

// hasReplyCode tells whether err is an error reply that begins with code.
func hasReplyCode(err error, code string) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(reply.Error(), code)
}

// errorCause returns the metric label of an error of the store.
func errorCause(err error) string {
	switch {
	case errors.Is(err, errDown):
		return "down"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case hasReplyCode(err, "LOADING"), hasReplyCode(err, "MASTERDOWN"):
		return "loading"
	case hasReplyCode(err, "NOAUTH"), hasReplyCode(err, "NOPERM"), hasReplyCode(err, "WRONGPASS"):
		return "refused"
	case isReply(err):
		return "reply"
	default:
		return "connection"
	}
}
