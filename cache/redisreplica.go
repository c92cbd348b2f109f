package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
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
	// maxLinkAway is more seconds than a link can have been down.
	maxLinkAway = 1_000_000_000
)

// errSwitch ends a watch that another node takes over.
var errSwitch = errors.New("reads move to another node")

// errOutOfStep ends the watch of a replica that its master does not reach, where there is no other
// server to read from.
var errOutOfStep = errors.New("the server is a replica without a link to its master")

// errNotMaster is a server that is not, or no longer, what Sentinels call it.
var errNotMaster = errors.New("the server that the sentinels name is not a master yet")

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
		s.sentinels.ask()
		pause(ctx, failures)
		if n == s.reads && s.hasReplica() {
			h.set(s.replicaState(ctx))
		}
	}
}

// degrade reports a lost or failed watch. A replica that lost its master still answers, with what
// it had; that is better than nothing for names that are not known.
func (s *redisStore) degrade(h *health, err error) {
	s.to.down(err)
	if s.hasReplica() && h.answers() || errors.Is(err, errOutOfStep) {
		if client, err := s.reads.connected(); err == nil {
			s.setCurrent(&link{client: client, doubtful: true})
			return
		}
	}
	s.setCurrent(nil)
}

// pause waits before the next attempt: not at all after a watch that had been up, then longer each
// time, with jitter, so that a fleet does not come back in step.
func pause(ctx context.Context, failures int) {
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

// watch sets up a watch on n and lives as long as it does, or until another node is better to read
// from. wasUp tells whether it ever stood.
func (s *redisStore) watch(ctx context.Context, n *node, h *health) (wasUp bool, err error) {
	// The place is asked for first: a move that comes later ends the watch.
	address, moved := n.place()
	client, err := n.connected()
	if err != nil {
		return false, err
	}
	alone := !s.hasReplica() && n.driver.topology != sentinelMaster
	if err := s.fits(ctx, n, client); err != nil {
		return false, fmt.Errorf("watch %s: %w", address, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var guard sync.WaitGroup
	defer guard.Wait()
	defer cancel(nil)
	guard.Go(func() { s.awaitBetter(ctx, n, h, moved, cancel) })
	if alone {
		guard.Go(func() { s.awaitOutOfStep(ctx, client, cancel) })
	}
	err = s.stand(ctx, client, address, func(l *link) {
		wasUp = true
		s.setCurrent(l)
		s.to.up()
	})
	if errors.Is(err, errSwitch) {
		s.to.down(nil)
	}
	return wasUp, err
}

// awaitBetter ends the watch of n when it has moved or the other node is better.
func (s *redisStore) awaitBetter(
	ctx context.Context, n *node, h *health, moved <-chan struct{}, cancel context.CancelCauseFunc,
) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-moved:
			address, _ := n.place()
			s.log.Info("master has moved", "address", address)
			s.setCurrent(nil)
			cancel(errSwitch)
			return
		case <-h.changed:
			if isReplica := n == s.reads; isReplica == h.good() {
				continue
			} else if isReplica {
				s.log.Warn("replica lost its master, reads move to the master")
			} else {
				s.log.Info("replica is in step again, reads move back")
			}
			cancel(errSwitch)
			return
		}
	}
}

// fits tells whether a server may be watched, as far as its part in a replication goes.
func (s *redisStore) fits(ctx context.Context, n *node, client rueidis.Client) error {
	switch {
	case n.driver.topology == sentinelMaster:
		return requireMaster(ctx, client)
	case s.hasReplica():
		return nil // followReplica judges
	case s.aloneState(ctx, client) < replicaGood:
		return errOutOfStep
	}
	return nil
}

// awaitOutOfStep ends the watch of the only server when that turns out to be a replica that its
// master does not reach: it would announce nothing any more, and not say so.
func (s *redisStore) awaitOutOfStep(ctx context.Context, client rueidis.Client, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(replicaInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if state := s.aloneState(ctx, client); state == replicaNever || state == replicaOutside {
				cancel(errOutOfStep)
				return
			}
		}
	}
}

// aloneState asks the only server how it stands to a master that it may have. It asks by HELLO
// first, which needs no right that the rest does not, and counts one that does not tell as a master.
func (s *redisStore) aloneState(ctx context.Context, client rueidis.Client) uint32 {
	askCtx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	fields, err := client.Do(askCtx, client.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return replicaGood
	}
	field := fields["role"]
	if role, err := field.ToString(); err != nil || role != "replica" {
		return replicaGood
	}
	info, err := replication(ctx, client)
	if err != nil {
		return replicaGood
	}
	return parseReplication(info, s.maxSilence)
}

// requireMaster refuses a server that is a replica: Sentinels name a new master before it knows,
// and an old one until they have found out.
func requireMaster(ctx context.Context, client rueidis.Client) error {
	info, err := replication(ctx, client)
	if err == nil && parseInfo(info)["role"] != "master" {
		err = errNotMaster
	}
	return err
}

// replication asks for a server's answer to INFO replication. The first command may find a
// connection that was lost meanwhile.
func replication(ctx context.Context, client rueidis.CommandClient) (info string, err error) {
	for range 2 {
		askCtx, cancel := context.WithTimeout(ctx, watchTimeout)
		info, err = client.Do(askCtx, client.B().Info().Section("replication").Build()).ToString()
		cancel()
		if err == nil || isReply(err) {
			break
		}
	}
	return info, err
}

// health is what is known about the replica. The zero value never changes.
type health struct {
	state   *atomic.Uint32
	changed chan struct{} // capacity 1
}

const (
	replicaGone    = iota // does not answer
	replicaNever          // answers, but since it started, its master has never reached it
	replicaOutside        // answers, but its master does not reach it any more
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
	info, err := replication(ctx, client)
	if err != nil {
		return replicaGone
	}
	return parseReplication(info, s.maxSilence)
}

// parseReplication judges the answer to INFO replication. A server that is no replica is in step
// with itself, and a replica that has heard nothing from its master for longer than maxSilence is not
// in step.
func parseReplication(info string, maxSilence time.Duration) uint32 {
	fields := parseInfo(info)
	if fields["role"] == "master" {
		return replicaGood
	}
	silence, err := strconv.Atoi(fields["master_last_io_seconds_ago"])
	if fields["master_link_status"] == "up" && err == nil && time.Duration(silence)*time.Second <= maxSilence {
		return replicaGood
	}
	// Redis 6.0 counts from 1970 what later ones call -1: the link has never been up.
	away, err := strconv.Atoi(fields["master_link_down_since_seconds"])
	if err == nil && (away < 0 || away > maxLinkAway) {
		return replicaNever
	}
	return replicaOutside
}

// parseInfo reads the lines of an answer to INFO.
func parseInfo(info string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = v
	}
	return fields
}
