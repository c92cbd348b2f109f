package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// watchTimeout bounds each command that sets a watch up.
	watchTimeout = 500 * time.Millisecond
	// pollInterval is the age at which everything counts as changed, where the server pushes
	// nothing.
	pollInterval = time.Second
)

// redisWatcher is what the stores on Redis share: how a server is made to announce changes, and how
// announcements reach the sink. Its methods are safe for concurrent use.
type redisWatcher struct {
	// Immutable once a watch stands.
	prefix string
	o      *Options
	log    *slog.Logger
	m      *counters
	to     sink
	// cluster tells that a server may answer MOVED.
	cluster bool

	tier atomic.Uint32 // of the last watch that stood
	runs sync.WaitGroup
}

func newRedisWatcher(d *driver, o *Options, m *counters) redisWatcher {
	return redisWatcher{prefix: d.prefix, o: o, log: o.Log, m: m, cluster: d.topology == clusterNodes}
}

// link is a connection to read through while the watch stands that it was made with.
type link struct {
	client  rueidis.CommandClient
	address string
	tier    tier
	// doubtful tells that no watch stands, and that the server is a replica without its master.
	doubtful bool
}

// stand sets a watch up on a server, calls ready when it stands, and returns when it ends: with the
// cause of ctx's end, or with the reason of its own.
func (w *redisWatcher) stand(ctx context.Context, client rueidis.Client, address string, ready func(*link)) error {
	conn, _ := client.Dedicate()
	// Not given back for reuse: the library would unsubscribe and expect PING to be answered, and where
	// a server refuses that (MASTERDOWN), it ends the process.
	defer conn.Close()
	l := &link{client: client, address: address, tier: tierBroadcast}
	lost, refusal, err := w.track(ctx, conn, l)
	if err != nil {
		return fmt.Errorf("watch %s: %w", address, err)
	}
	if err := w.probe(ctx, client); err != nil {
		return fmt.Errorf("read from %s: %w", address, err)
	}
	w.noteTier(l, refusal)
	if l.tier == tierPoll {
		return w.poll(ctx, client, l, ready)
	}
	ready(l)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-lost:
		// A planned end closes the channel without an error.
		return fmt.Errorf("watch of %s ended: %w", address, orElse(err, "connection closed"))
	}
}

// track makes conn receive a push for each change of one of our keys, and the announcements
// of marks. lost says when the connection ends. A server that refuses the best tier, which is what
// refusal holds then, is asked for the next; l becomes what it agreed to.
func (w *redisWatcher) track(
	ctx context.Context, conn rueidis.DedicatedClient, l *link,
) (lost <-chan error, refusal, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	if err := requirePushes(ctx, conn); errors.Is(err, errOldProtocol) {
		l.tier = tierPoll
		return nil, err, nil
	} else if err != nil {
		return nil, nil, err
	}
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: w.heard})
	var end watchEnd
	ended := conn.SetOnInvalidations(func(keys []rueidis.RedisMessage) {
		if keys != nil || !end.reached() {
			w.pushed(keys)
		}
	})
	end.lost.Store(&ended) // Not of lost, which a return writes while the connection is still read.
	refusal = conn.Do(ctx, w.trackingCommand(conn.B())).Error()
	if refusal != nil && (!isReply(refusal) || hasReplyCode(refusal, "NOAUTH")) {
		return nil, nil, refusal // An edge that is locked out is not one that has to poll.
	}
	if refusal != nil {
		// Only what was read through the same connection is tracked.
		l.tier, l.client = tierOptIn, conn
		if err := conn.Do(ctx, conn.B().Arbitrary("CLIENT", "TRACKING", "ON", "OPTIN").Build()).Error(); isReply(err) {
			l.tier, l.client = tierPoll, nil
			return nil, refusal, nil
		} else if err != nil {
			return nil, nil, err
		}
	}
	if err := conn.Do(ctx, conn.B().Subscribe().Channel(deadChannel).Build()).Error(); err != nil {
		if !isReply(err) {
			return nil, nil, err
		}
		// An ACL may refuse the channel. Dead sets still arrive, only bound by position.
		w.m.storeError("subscribe")
	}
	return ended, refusal, nil
}

// errOldProtocol is a connection on which a server has no way to push.
var errOldProtocol = errors.New("the server speaks RESP2")

// requirePushes refuses the older protocol. Redis itself does not: it accepts CLIENT TRACKING there
// and pushes nothing. Redis 6.0 does not know HELLO without a version, but nothing that speaks
// RESP3 lacks the command.
func requirePushes(ctx context.Context, conn rueidis.DedicatedClient) error {
	fields, err := conn.Do(ctx, conn.B().Arbitrary("HELLO").Build()).AsMap()
	if isReply(err) {
		if strings.Contains(err.Error(), "unknown command") {
			return errOldProtocol
		}
		return nil
	}
	if err != nil {
		return err
	}
	version := fields["proto"]
	if n, err := version.AsInt64(); err == nil && n < 3 {
		return errOldProtocol
	}
	return nil
}

// poll stands in for a watch where the server refuses one: all that is known counts as changed at
// each interval, and the announcements of marks name what changed in between.
func (w *redisWatcher) poll(ctx context.Context, client rueidis.Client, l *link, ready func(*link)) error {
	l.client = client
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan error, 1)
	// Marks are published on the other connection: Redis puts a message that a transaction publishes into
	// the middle of the answer to its EXEC, where the same connection listens (RESP3), and the library
	// then takes each answer for that of the command before.
	ears, _ := client.Dedicate()
	defer ears.Close()
	var listener sync.WaitGroup
	defer listener.Wait()
	defer cancel()
	listener.Go(func() {
		heard <- ears.Receive(ctx, ears.B().Subscribe().Channel(deadChannel).Build(), func(m rueidis.PubSubMessage) {
			if host := w.heardHost(m.Message); host != "" {
				w.to.deadChanged(host)
			}
		})
	})
	ready(l)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-heard:
			if !isReply(err) {
				return fmt.Errorf("poll of %s ended: %w", l.address, orElse(err, "connection closed"))
			}
			w.m.storeError("subscribe") // refused: marks of others count at the next poll
		case <-tick.C:
			if err := w.probe(ctx, client); err != nil {
				return fmt.Errorf("poll of %s ended: %w", l.address, err)
			}
			w.to.flushed()
		}
	}
}

// probe sees that reads work: a server that is loading its data accepts a watch before it reads.
// The first command may find the connection of an earlier life of the server.
func (w *redisWatcher) probe(ctx context.Context, client rueidis.CommandClient) error {
	var err error
	for range 2 {
		probeCtx, cancel := context.WithTimeout(ctx, watchTimeout)
		err = client.Do(probeCtx, client.B().Pttl().Key(w.prefix+frontendKey+"*").Build()).Error()
		cancel()
		if w.cluster && hasReplyCode(err, "MOVED") {
			return nil
		}
		if err == nil || isReply(err) {
			return err
		}
	}
	return err
}

// watchEnd tells the push that a client library makes up when a connection ends, which looks like
// that of FLUSHALL, from a real one. Taken for real, it would have known hosts wait for a store that
// is just being lost.
type watchEnd struct {
	lost atomic.Pointer[<-chan error] // nil until the watch is set up; nothing is pushed before
}

// reached is asked on the goroutine that reads the connection, which says that it has ended before
// it makes the push up.
func (e *watchEnd) reached() bool {
	lost := e.lost.Load()
	if lost == nil || len(*lost) > 0 {
		return true
	}
	select {
	case <-*lost: //nolint:errcheck // It is closed, and its error was taken out.
		return true
	default:
		return false
	}
}

// pushed hands invalidations on. It runs on the goroutine that reads the connection.
func (w *redisWatcher) pushed(keys []rueidis.RedisMessage) {
	if keys == nil {
		w.to.flushed()
		return
	}
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil {
			continue
		}
		key = key[min(len(w.prefix), len(key)):]
		if name, ok := strings.CutPrefix(key, frontendKey); ok {
			w.to.listChanged(name)
		} else if name, ok := strings.CutPrefix(key, deadKey); ok {
			w.to.deadChanged(name)
		} else if f, name, ok := cutFamily(key); ok {
			w.to.hashChanged(f, name)
		}
	}
}

// heard hands announcements of marks on.
func (w *redisWatcher) heard(m rueidis.PubSubMessage) { w.heardHost(m.Message) }

// heardHost hands an announcement on, host;url;id;count, and returns the host; "" if it is none.
func (w *redisWatcher) heardHost(text string) string {
	host, rest, ok := strings.Cut(text, ";")
	if !ok {
		return ""
	}
	// The URL may hold semicolons, the numbers cannot.
	rest, _, ok = cutLast(rest)
	url, idText, ok2 := cutLast(rest)
	id, err := strconv.Atoi(idText)
	if !ok || !ok2 || err != nil || id < 0 {
		return ""
	}
	w.to.announced(host, url, id)
	return host
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ';')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
