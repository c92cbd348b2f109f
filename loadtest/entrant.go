package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// entrant is a contestant at a kind of work.
type entrant struct {
	*contestant
	work work
}

// entry is an entrant that is yet to be started.
type entry struct {
	name string
	work work
}

// The names that entrants have beside those of the contestants.
const (
	// atRest is sluice where nothing changes, the rival of the one whose routes do.
	atRest = "sluice at rest"
	// oneHost follows the name of a contestant that routes one name only, beside itself with many.
	oneHost = " with one host"
)

// base is the contestant that an entrant of this name runs.
func base(name string) string {
	if name == atRest {
		return "sluice"
	}
	return strings.TrimSuffix(name, oneHost)
}

// entries are those that take part: the contestants of o that can do the work and, where names or
// changes of routes are what is measured, each of them without, to be compared with.
func (w work) entries(o *options) (list []entry, leftOut []string) {
	names, leftOut := w.contestants(o)
	for _, name := range names {
		list = append(list, entry{name, w})
		if w.besideOne {
			single := w
			single.hosts, single.drawn = 1, true // The generator's pace is the same.
			list = append(list, entry{name + oneHost, single})
		}
	}
	if w.changes > 0 {
		list = append(list, entry{atRest, w})
	}
	return list, leftOut
}

// startEntrants starts everyone, ready to serve. Without the first one, the subject, nobody runs;
// without another one the others do, and the errors say who is missing and why.
func startEntrants(ctx context.Context, s *site, o *options, entries []entry) ([]entrant, []error) {
	var list []entrant
	var failed []error
	for i, one := range entries {
		c, err := startContestant(ctx, s, one.work, o, one.name)
		if err == nil {
			list = append(list, entrant{c, one.work})
			continue
		}
		failed = append(failed, fmt.Errorf("start %s: %w", one.name, err))
		if i == 0 || ctx.Err() != nil {
			stopEntrants(list)
			return nil, failed
		}
	}
	return list, failed
}

func stopEntrants(list []entrant) {
	for _, e := range list {
		e.stop()
	}
}

// Warming up: a second of work makes the connections; where sluice has to learn names, each name
// is asked for in turn, in pieces until all were.
const (
	warmUpTime  = time.Second
	warmUpPiece = 2 * time.Second
)

func (e entrant) warmUp(ctx context.Context, s *site, o *options) error {
	if e.work.clients > 0 {
		return nil // Its generator uses each connection before it begins.
	}
	if e.redis == nil || e.work.hosts == 1 {
		_, err := e.drive(ctx, s, o, warmUpTime, nothingBefore)
		return err
	}
	for asked := 0; asked < e.work.hosts; {
		r, err := runWrk(ctx, e.url+e.work.path, e.work.scriptInOrder(asked), o.connections, warmUpPiece)
		if err != nil {
			return err
		}
		// Those under way when the time was over may have been lost.
		asked += max(int(r.Requests)-o.connections, 1)
	}
	return nil
}

// nothingBefore is the begin of a drive that is not measured.
func nothingBefore() error { return nil }

// drive sends the entrant its work for a time. It calls begin when what has to be open is open.
func (e entrant) drive(ctx context.Context, s *site, o *options, duration time.Duration, begin func() error,
) (report, error) {
	switch {
	case e.work.webSocket:
		return runWebSocket(ctx, s, e.url, o.connections, duration, begin)
	case e.work.handshakes:
		return runHandshakes(ctx, e.url, o.connections, duration, begin)
	}
	if err := begin(); err != nil {
		return report{}, err
	}
	if e.work.http2 {
		return runH2load(ctx, e, duration)
	}
	return runWrk(ctx, e.url+e.work.path, e.work.script(), e.work.connections(o), duration)
}

// measure takes the sample of one round.
func (e entrant) measure(ctx context.Context, s *site, o *options, round int) (sample, error) {
	var one sample
	var err error
	if e.work.again {
		if _, err := e.drive(ctx, s, o, 2*warmUpTime, nothingBefore); err != nil {
			return sample{}, err
		}
	}
	switch {
	case e.work.clients > 0:
		one, err = e.atRate(ctx, o, e.work.clients, steadyRate)
	case e.work.idle > 0:
		one, err = e.measureBesideIdle(ctx, s, o, round)
	case e.work.changes > 0 && e.name != atRest:
		one, err = e.measureChanging(ctx, s, o)
	default:
		one, err = e.take(ctx, s, o)
	}
	one.Round = round
	return one, err
}

// measureBesideIdle takes a sample while idle connections are open. What those cost is taken in the
// first round, from a proxy that has never had as many.
func (e entrant) measureBesideIdle(ctx context.Context, s *site, o *options, round int) (sample, error) {
	n, rest := e.work.idle, settleTime
	if o.short {
		n, rest = n/shortIdleShare, shortSettleTime
	}
	if round > 0 {
		rest = 0
	}
	idle, err := holdIdle(ctx, e, n, rest)
	if err != nil {
		return sample{}, err
	}
	defer idle.close()
	one, err := e.take(ctx, s, o)
	one.Idle = idle.figures
	return one, errors.Join(err, idle.askAgain(e.work))
}

// measureChanging takes a sample while routes change.
func (e entrant) measureChanging(ctx context.Context, s *site, o *options) (sample, error) {
	changer, err := startChurn(ctx, s, e)
	if err != nil {
		return sample{}, err
	}
	one, err := e.take(ctx, s, o)
	rate, churnErr := changer.stop()
	one.Changes = rate
	return one, errors.Join(err, churnErr)
}

// take drives the entrant for the time that o says.
func (e entrant) take(ctx context.Context, s *site, o *options) (sample, error) {
	return e.account(func(begin func() error) (report, error) {
		return e.drive(ctx, s, o, o.duration, begin)
	})
}

// atRate sends the entrant small requests at a rate, each due at its time; 0 is as fast as answers
// come.
func (e entrant) atRate(ctx context.Context, o *options, connections int, rate float64) (sample, error) {
	if ctx.Err() != nil {
		return sample{}, ctx.Err()
	}
	return e.account(func(begin func() error) (report, error) {
		return runOpenLoop(e.url, e.work, connections, rate, o.duration, begin)
	})
}
