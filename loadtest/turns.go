package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// lineup is the entrants that still take part, and why others no longer do.
type lineup struct {
	entrants []entrant
	subject  string // name of the first one; without it nothing is worth measuring
	failed   []error
}

func newLineup(entrants []entrant) *lineup {
	return &lineup{entrants: entrants, subject: entrants[0].name}
}

// drop takes an entrant out. A slice of entrants that was taken before stays as it is.
func (l *lineup) drop(e entrant, err error) {
	l.failed = append(l.failed, err)
	l.entrants = slices.DeleteFunc(slices.Clone(l.entrants), func(other entrant) bool { return other.name == e.name })
}

// over reports whether there is no use in going on.
func (l *lineup) over(ctx context.Context) bool {
	return ctx.Err() != nil || len(l.entrants) == 0 || l.entrants[0].name != l.subject
}

// remaining are the samples of those that took part to the end; none if the subject did not.
func (l *lineup) remaining(ctx context.Context, samples []sample) []sample {
	if l.over(ctx) {
		return nil
	}
	return slices.DeleteFunc(samples, func(one sample) bool {
		return !slices.ContainsFunc(l.entrants, func(e entrant) bool { return e.name == one.Contestant })
	})
}

// turns are the samples of entrants that take turns, and why some of them have none.
type turns struct {
	samples []sample
	failed  []error
}

// takeTurns warms the entrants up and takes one sample of each in every round. Each round begins
// with another one, so that nobody always follows the same rival. One that fails takes no further
// part, and none of its samples count; without the first one, the subject, there are none at all.
//
// In the short form, which looks for errors and not for figures, all of them run at once.
func takeTurns(ctx context.Context, s *site, o *options, entrants []entrant) turns {
	if o.short {
		return takeAtOnce(ctx, s, o, entrants)
	}
	l := newLineup(entrants)
	for _, e := range entrants {
		if err := e.prepare(ctx, s, o); err != nil {
			l.drop(e, err)
		}
	}
	var samples []sample
	for round := range o.roundsOf(entrants) {
		order := l.entrants
		for i := range order {
			if l.over(ctx) {
				break
			}
			e := order[(round+i)%len(order)]
			one, err := e.measure(ctx, s, o, round)
			if err != nil {
				l.drop(e, fmt.Errorf("measure %s in round %d: %w", e.name, round+1, err))
				continue
			}
			samples = append(samples, one)
		}
	}
	return turns{l.remaining(ctx, samples), l.failed}
}

// prepare lets an entrant do its work before it counts.
func (e entrant) prepare(ctx context.Context, s *site, o *options) error {
	if err := e.warmUp(ctx, s, o); err != nil {
		return fmt.Errorf("warm %s up: %w", e.name, err)
	}
	return e.cutLog()
}

// idleRounds are enough beside idle connections: making them takes most of the time, and what they cost
// is taken once.
const idleRounds = 2

// roundsOf is how often each of the entrants is measured.
func (o *options) roundsOf(entrants []entrant) int {
	if len(entrants) > 0 && entrants[0].work.idle > 0 {
		return min(o.rounds, idleRounds)
	}
	return o.rounds
}

// takeAtOnce takes one sample of each entrant, side by side and without warming up.
func takeAtOnce(ctx context.Context, s *site, o *options, entrants []entrant) turns {
	samples := make([]sample, len(entrants))
	errs := make([]error, len(entrants))
	var all sync.WaitGroup
	for i, e := range entrants {
		all.Go(func() { samples[i], errs[i] = e.measure(ctx, s, o, 0) })
	}
	all.Wait()
	var t turns
	for i, err := range errs {
		if err != nil {
			t.failed = append(t.failed, fmt.Errorf("measure %s: %w", entrants[i].name, err))
		} else {
			t.samples = append(t.samples, samples[i])
		}
	}
	if errs[0] != nil {
		t.samples = nil
	}
	return t
}
