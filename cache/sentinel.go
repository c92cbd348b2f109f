package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// sentinelInterval is how often Sentinels are asked although none announced a new master.
	sentinelInterval = time.Second
	// sentinelTimeout bounds one round of questions.
	sentinelTimeout = 500 * time.Millisecond
	// epochTrust is how long the last failover outweighs Sentinels that do not know of it. After that
	// they count: they may have been set up anew.
	epochTrust = 10 * time.Second
	// switchChannel is where Sentinels announce a new master.
	switchChannel = "+switch-master"
)

// sentinels keep a node where the master is. The client library could do that too, but it would
// move reads to the new master before the watch stands there, and changes in between would be lost.
type sentinels struct {
	// Immutable.
	master string
	target *node
	all    []*sentinel
	log    *slog.Logger
	asked  chan struct{} // capacity 1
	begun  chan struct{} // closed after the first round
}

// sentinel is one of them.
type sentinel struct {
	node   *node
	asking atomic.Bool // an answer is awaited still
}

// sighting is where a Sentinel sees the master.
type sighting struct {
	address string
	// epoch is the number of the failover that made it master: of two Sentinels that differ, the
	// one with the higher number is right.
	epoch int64
}

func newSentinels(d *driver, target *node, log *slog.Logger) *sentinels {
	s := &sentinels{master: d.master, target: target, log: log, asked: make(chan struct{}, 1), begun: make(chan struct{})}
	own := &driver{network: d.network, user: d.sentinelUser, password: d.sentinelPassword, tls: d.tls}
	for _, address := range d.addresses {
		s.all = append(s.all, &sentinel{node: newNode(own, address)})
	}
	return s
}

// ask makes the next round of questions begin now; s may be nil.
func (s *sentinels) ask() {
	if s == nil {
		return
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// follow keeps the target where the master is until ctx ends.
func (s *sentinels) follow(ctx context.Context) {
	var runs sync.WaitGroup
	for _, one := range s.all {
		runs.Go(func() { s.listen(ctx, one) })
	}
	tick := time.NewTicker(sentinelInterval)
	defer tick.Stop()
	var current sighting
	var confirmed time.Time
	logged := ""
	for first := true; ctx.Err() == nil; first = false {
		best, err := s.round(ctx, &runs)
		switch {
		case best.address != "" && best.epoch < current.epoch && time.Since(confirmed) < epochTrust:
			// Most of those that answered have not heard of the last failover yet.
		case best.address != "":
			current, confirmed, logged = best, time.Now(), ""
			s.target.move(best.address)
		case err != nil && ctx.Err() == nil && err.Error() != logged:
			s.log.Warn("sentinels do not tell where the master is", "master", s.master, "cause", err)
			logged = err.Error()
		}
		if first {
			close(s.begun)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.asked:
		}
	}
	runs.Wait()
	for _, one := range s.all {
		one.node.close()
	}
}

// round asks all Sentinels at once and returns the best answer; its address is "" if there is none,
// and err then one of the reasons. When most have answered, it does not wait for the rest, so one
// that hangs holds nobody up.
func (s *sentinels) round(ctx context.Context, runs *sync.WaitGroup) (best sighting, err error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	answers := make(chan sighting, len(s.all))
	failures := make(chan error, len(s.all))
	awaited := 0
	for _, one := range s.all {
		if !one.asking.CompareAndSwap(false, true) {
			continue
		}
		awaited++
		runs.Go(func() {
			defer one.asking.Store(false)
			if answer, err := one.locate(ctx, s.master); err != nil {
				failures <- fmt.Errorf("ask sentinel %s: %w", one.node.address, err)
			} else {
				answers <- answer
			}
		})
	}
	for answered := 0; awaited > 0 && answered*2 <= len(s.all); awaited-- {
		select {
		case answer := <-answers:
			answered++
			if best.address == "" || answer.epoch > best.epoch {
				best = answer
			}
		case err = <-failures:
		case <-ctx.Done():
			return best, err
		}
	}
	return best, err
}

// locateOnce asks all Sentinels for the address of the master, for a caller that does not follow it.
func (s *sentinels) locateOnce(ctx context.Context) (string, error) {
	var runs sync.WaitGroup
	best, err := s.round(ctx, &runs)
	runs.Wait()
	for _, one := range s.all {
		one.node.close()
	}
	if best.address == "" {
		return "", orElse(err, "no sentinel answers")
	}
	return best.address, nil
}

// locate asks one Sentinel where the master is.
func (s *sentinel) locate(ctx context.Context, master string) (sighting, error) {
	client, err := s.node.connected()
	if err != nil {
		return sighting{}, err
	}
	var replies []rueidis.RedisResult
	for range 2 { // the first command may find a connection that was lost meanwhile
		replies = client.DoMulti(ctx,
			client.B().SentinelGetMasterAddrByName().Master(master).Build(),
			client.B().Arbitrary("SENTINEL", "MASTER", master).Build())
		if err = replies[0].Error(); err == nil || isReply(err) || rueidis.IsRedisNil(err) {
			break
		}
	}
	if rueidis.IsRedisNil(err) {
		return sighting{}, fmt.Errorf("it knows no master %q", master)
	}
	address, err := replies[0].AsStrSlice()
	if err != nil {
		return sighting{}, err
	}
	if len(address) != 2 {
		return sighting{}, errors.New("its answer is not host and port")
	}
	fields, err := replies[1].AsStrMap()
	if err != nil {
		return sighting{}, err
	}
	epoch, err := strconv.ParseInt(fields["config-epoch"], 10, 64)
	return sighting{address: net.JoinHostPort(address[0], address[1]), epoch: epoch}, err
}

// listen waits for one Sentinel's announcements until ctx ends.
func (s *sentinels) listen(ctx context.Context, one *sentinel) {
	for ctx.Err() == nil {
		if client, err := one.node.connected(); err == nil {
			// Its error is that of the connection; the rounds tell what matters about it.
			_ = client.Receive(ctx, client.B().Subscribe().Channel(switchChannel).Build(),
				func(rueidis.PubSubMessage) { s.ask() })
		}
		awaitChange(ctx, nil, sentinelInterval)
	}
}
