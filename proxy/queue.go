package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// errNoPlace is the end of a wait in the queue.
var errNoPlace = errors.New("no place was freed in time")

// queue waits up to queueTime for a place at one of the backends, all of which are full, and makes the one that has it
// the exchange's. The request stands in the queue of p, which was tried last; that queue is no longer than the limit.
func (x *exchange) queue(p *pool, limit int) (*pool, Error) {
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > int64(limit) {
		x.srv.metrics.limited[limitBackend].Inc()
		return nil, failed(KindBackendBusy)
	}
	var got *pool
	err := x.patiently(func(ctx context.Context) (err error) {
		got, err = x.awaitPlace(ctx, p, limit)
		return err
	})
	switch {
	case err == nil:
		return got, Error{}
	case got != nil:
		got.leave() // The client has gone as its turn came.
	}
	if errors.Is(err, errClientGone) {
		return nil, Error{Kind: KindClientGone, Cause: err}
	}
	x.srv.metrics.limited[limitBackend].Inc()
	return nil, failed(KindBackendBusy)
}

// awaitPlace is woken when p has a place, and looks at the others every queuePoll: a request must not be refused
// because it stands behind a backend that is stuck while another one has room again.
func (x *exchange) awaitPlace(ctx context.Context, p *pool, limit int) (*pool, error) {
	timer, tick := time.NewTimer(queueTime), time.NewTicker(queuePoll)
	defer timer.Stop()
	defer tick.Stop()
	for {
		if p.enter(limit) {
			if p.waiting.Load() > 1 && p.active.Load() < int64(limit) {
				p.wake()
			}
			return p, nil
		}
		if other := x.enterPassedOver(limit); other != nil {
			return other, nil
		}
		select {
		case <-p.freed:
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, errNoPlace
		}
	}
}

// maxLooks is how many of the other backends a request in the queue looks at in one go: a full frontend of many must
// not cost more the longer its queues are.
const maxLooks = 8 // Limit

// enterPassedOver takes a place at a backend that this request was refused by before. It returns nil if none of those
// that it looks at has one.
func (x *exchange) enterPassedOver(limit int) *pool {
	n := len(x.full)
	if n == 0 {
		return nil
	}
	list, first := x.route.Frontend().Backends, rand.IntN(n)
	for k := range min(n, maxLooks) {
		i := x.full[(first+k)%n]
		if i >= len(list) || list[i].Err != nil || !x.route.Alive(i) || x.untried(&list[i]) {
			continue // The list has changed since.
		}
		if p := x.srv.pools.get(&list[i]); p.enter(limit) {
			x.index, x.backend = i, &list[i]
			return p
		}
	}
	return nil
}
