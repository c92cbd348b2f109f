package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"
)

const (
	// scheduleEvery is how often each edge looks at the schedule, at least.
	scheduleEvery = 10 * time.Second
	// scheduleBatch bounds the names of one look.
	scheduleBatch = 32
	// scheduleJitter keeps the edges from looking at the same moment.
	scheduleJitter = 2 * time.Second
)

// renewalTime is when a certificate is renewed: a third before its end, less up to a thirtieth of its
// life, which depends on name and certificate alone, so that all edges agree on it and those that
// were issued together are not renewed together.
func renewalTime(name string, leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	h := fnv.New64a()
	_, _ = h.Write([]byte(name + strconv.FormatInt(leaf.NotAfter.Unix(), 10)))
	jitter := time.Duration(h.Sum64() % uint64(max(life/30, 1)))
	return leaf.NotAfter.Add(-life/3 - jitter)
}

// runSchedule renews what is due, until the Issuer is closed.
func (i *Issuer) runSchedule() {
	for {
		i.writeLater()
		wait := i.renewDue()
		timer := time.NewTimer(wait + rand.N(min(scheduleJitter, wait))) //nolint:gosec // no secret
		select {
		case <-timer.C:
		case <-i.scheduled:
			timer.Stop()
		case <-i.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// noteScheduled has the schedule looked at anew, because it has changed.
func (i *Issuer) noteScheduled() {
	select {
	case i.scheduled <- struct{}{}:
	default:
	}
}

// renewDue renews a batch and returns when to look again.
func (i *Issuer) renewDue() time.Duration {
	due, next, err := i.look()
	if err != nil {
		if i.ctx.Err() == nil {
			i.tell("outlook", "certificates cannot be renewed: the store did not do its part", "error", err)
		}
		return scheduleEvery
	}
	// Edges that begin at different places seldom meet at a lock.
	rand.Shuffle(len(due), func(a, b int) { due[a], due[b] = due[b], due[a] })
	var flights []*flight
	for _, name := range due {
		if f := i.launch(name, netip.Addr{}, true); f != nil { // else there is no room, and it stays due
			flights = append(flights, f)
		}
	}
	for _, f := range flights {
		select {
		case <-f.done:
			i.settle(f)
		case <-i.ctx.Done():
			return time.Second
		}
	}
	switch {
	case len(due) > 0:
		return time.Second
	case !next.IsZero():
		return min(max(time.Until(next), time.Second), scheduleEvery)
	}
	return scheduleEvery
}

// look reads the schedule.
func (i *Issuer) look() (due []string, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(i.ctx, storeTimeout)
	defer cancel()
	now := time.Now()
	names, overdue, next, firstExpiry, err := i.o.Store.Outlook(ctx, now)
	if err != nil {
		return nil, next, err
	}
	i.m.noteOutlook(names, overdue, firstExpiry)
	if overdue > 0 {
		due, err = i.o.Store.Due(ctx, now, scheduleBatch)
	}
	return due, next, err
}

// settle brings the schedule up to date with what became of a name.
func (i *Issuer) settle(f *flight) {
	ctx, cancel := context.WithTimeout(i.ctx, storeTimeout)
	defer cancel()
	var err error
	switch {
	case f.err == nil:
		// Whoever renewed it has scheduled it; what is there may also be newer than the schedule.
		err = i.o.Store.Schedule(ctx, f.name, renewalTime(f.name, f.cert.Leaf), f.cert.Leaf.NotAfter)
	case isOver(f.err):
		i.log.Info("certificate is renewed no more", "host", f.name, "cause", f.err.Error())
		err = i.o.Store.Forget(ctx, f.name)
	case errors.Is(f.err, errElsewhere):
	default:
		err = i.o.Store.Postpone(ctx, f.name, time.Now().Add(max(f.wait, rememberRefused)))
	}
	if err != nil && i.ctx.Err() == nil {
		i.tell("outlook", "schedule of renewals not kept: the store did not do its part", "error", err)
	}
}
