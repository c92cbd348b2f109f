package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// maxBackoff bounds the pause between attempts to connect.
	maxBackoff = 80 * time.Millisecond
	// replicaInterval is how often a replica is asked about its link.
	replicaInterval = time.Second
	// maxReplicaSilence is how long a replica may have heard nothing from its master.
	maxReplicaSilence = 15 * time.Second
	// watchTimeout bounds each command that sets a watch up.
	watchTimeout = 500 * time.Millisecond
)

// errSwitch ends a watch that another node takes over.
var errSwitch = errors.New("reads move to another node")

// supervise keeps a watch on the node that is best to read from, until ctx ends.
func (s *redisStore) supervise(ctx context.Context) {
	var h health
	if s.hasReplica() {
		h = newHealth()
		h.set(s.replicaState(ctx))
		s.runs.Go(func() { s.followReplica(ctx, &h) })
	}
	failures := 0
	for ctx.Err() == nil {
		n := s.reads
		if s.hasReplica() && !h.good() {
			n = s.writes
		}
		wasUp, err := s.watch(ctx, n, &h)
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(err, errSwitch):
			failures = 0
			continue
		case wasUp:
			failures = 0
		default:
			failures++
		}
		s.degrade(&h, err)
		s.pause(ctx, failures)
		if n == s.reads && s.hasReplica() {
			h.set(s.replicaState(ctx))
		}
	}
}

// degrade reports a lost or failed watch. A replica that lost its master still answers, with what
// it had; that is better than nothing for names that are not known.
func (s *redisStore) degrade(h *health, err error) {
	s.to.down(err)
	if s.hasReplica() && h.answers() {
		s.setCurrent(s.reads)
	} else {
		s.setCurrent(nil)
	}
}

// pause waits before the next attempt: not at all after a watch that had been up, then longer each
// time, with jitter, so that a fleet does not come back in step.
func (s *redisStore) pause(ctx context.Context, failures int) {
	if failures == 0 {
		return
	}
	limit := min(maxBackoff, 5*time.Millisecond<<min(failures, 10))
	timer := time.NewTimer(limit/2 + rand.N(limit/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// watch sets up a watch on n and lives as long as it does. wasUp tells whether it ever stood.
func (s *redisStore) watch(ctx context.Context, n *node, h *health) (wasUp bool, err error) {
	client, err := n.connected()
	if err != nil {
		return false, err
	}
	conn, release := client.Dedicate()
	defer release()
	lost, err := s.track(ctx, conn)
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", n.driver.address, err)
	}
	if err := s.probe(ctx, client); err != nil {
		return false, fmt.Errorf("read from %s: %w", n.driver.address, err)
	}
	s.setCurrent(n)
	s.to.up()
	for {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case err := <-lost:
			// A planned end closes the channel without an error.
			return true, fmt.Errorf("watch of %s ended: %w", n.driver.address, orElse(err, "connection closed"))
		case <-h.changed:
			if better := (n == s.reads) != h.good(); better {
				return true, s.leave(n)
			}
		}
	}
}

// leave ends the watch of n in favour of the other node.
func (s *redisStore) leave(n *node) error {
	if n == s.reads {
		s.log.Warn("replica lost its master, reads move to the master")
	} else {
		s.log.Info("replica is in step again, reads move back")
	}
	s.to.down(nil)
	return errSwitch
}

// track makes conn receive a push for each change of a frontend or dead set, and the announcements
// of marks. The channel says when the connection ends.
func (s *redisStore) track(ctx context.Context, conn rueidis.DedicatedClient) (<-chan error, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: s.heard})
	lost := conn.SetOnInvalidations(s.pushed)
	err := conn.Do(ctx, conn.B().Arbitrary("CLIENT", "TRACKING", "ON", "BCAST",
		"PREFIX", s.prefix+frontendKey, "PREFIX", s.prefix+deadKey).Build()).Error()
	if err != nil {
		return nil, err
	}
	if err := conn.Do(ctx, conn.B().Subscribe().Channel(deadChannel).Build()).Error(); err != nil {
		if !isReply(err) {
			return nil, err
		}
		// An ACL may refuse the channel. Dead sets still arrive, only bound by position.
		s.m.storeError("subscribe")
	}
	return lost, nil
}

// probe sees that reads work: a server that is loading its data accepts a watch before it reads.
// The first command may find the connection of an earlier life of the server.
func (s *redisStore) probe(ctx context.Context, client rueidis.Client) error {
	var err error
	for range 2 {
		probeCtx, cancel := context.WithTimeout(ctx, watchTimeout)
		err = client.Do(probeCtx, client.B().Pttl().Key(s.prefix+frontendKey+"*").Build()).Error()
		cancel()
		if err == nil || isReply(err) {
			return err
		}
	}
	return err
}

// pushed hands invalidations on. It runs on the goroutine that reads the connection.
func (s *redisStore) pushed(keys []rueidis.RedisMessage) {
	if keys == nil {
		s.to.flushed()
		return
	}
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil {
			continue
		}
		key = key[min(len(s.prefix), len(key)):]
		if name, ok := strings.CutPrefix(key, frontendKey); ok {
			s.to.listChanged(name)
		} else if name, ok := strings.CutPrefix(key, deadKey); ok {
			s.to.deadChanged(name)
		}
	}
}

// heard hands announcements of marks on: host;url;id;count.
func (s *redisStore) heard(m rueidis.PubSubMessage) {
	host, rest, ok := strings.Cut(m.Message, ";")
	if !ok {
		return
	}
	// The URL may hold semicolons, the numbers cannot.
	rest, _, ok = cutLast(rest)
	url, idText, ok2 := cutLast(rest)
	id, err := strconv.Atoi(idText)
	if ok && ok2 && err == nil && id >= 0 {
		s.to.announced(host, url, id)
	}
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ';')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// health is what is known about the replica. The zero value never changes.
type health struct {
	state   *atomic.Uint32
	changed chan struct{} // capacity 1
}

const (
	replicaGone    = iota // does not answer
	replicaOutside        // answers, but its master does not reach it
	replicaGood
)

func newHealth() health {
	return health{state: new(atomic.Uint32), changed: make(chan struct{}, 1)}
}

func (h *health) set(state uint32) {
	if h.state.Swap(state) != state {
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
}

func (h *health) good() bool    { return h.state == nil || h.state.Load() == replicaGood }
func (h *health) answers() bool { return h.state.Load() != replicaGone }

// followReplica keeps h up to date.
func (s *redisStore) followReplica(ctx context.Context, h *health) {
	tick := time.NewTicker(replicaInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.set(s.replicaState(ctx))
		}
	}
}

// replicaState asks the replica how it stands to its master.
func (s *redisStore) replicaState(ctx context.Context) uint32 {
	client, err := s.reads.connected()
	if err != nil {
		return replicaGone
	}
	var info string
	for range 2 { // the first command may find a connection that was lost meanwhile
		askCtx, cancel := context.WithTimeout(ctx, watchTimeout)
		info, err = client.Do(askCtx, client.B().Info().Section("replication").Build()).ToString()
		cancel()
		if err == nil {
			return parseReplication(info)
		}
	}
	return replicaGone
}

// parseReplication judges the answer to INFO replication. A server that is no replica is in step
// with itself.
func parseReplication(info string) uint32 {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = v
	}
	if fields["role"] == "master" {
		return replicaGood
	}
	silence, err := strconv.Atoi(fields["master_last_io_seconds_ago"])
	if fields["master_link_status"] == "up" && err == nil && time.Duration(silence)*time.Second <= maxReplicaSilence {
		return replicaGood
	}
	return replicaOutside
}
