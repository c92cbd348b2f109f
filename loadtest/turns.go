package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

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
	var t turns
	subject := entrants[0].name
	drop := func(e entrant, err error) {
		t.failed = append(t.failed, err)
		t.samples = slices.DeleteFunc(t.samples, func(one sample) bool { return one.Contestant == e.name })
		entrants = slices.DeleteFunc(slices.Clone(entrants), func(other entrant) bool { return other.name == e.name })
	}
	subjectFailed := func() bool { return len(entrants) == 0 || entrants[0].name != subject || ctx.Err() != nil }
	for _, e := range entrants {
		if err := e.prepare(ctx, s, o); err != nil {
			drop(e, err)
		}
	}
	if subjectFailed() {
		return turns{failed: t.failed}
	}
	for round := range o.roundsOf(entrants) {
		order := entrants // Who fails in this round leaves a copy of it.
		for i := range order {
			e := order[(round+i)%len(order)]
			one, err := e.measure(ctx, s, o, round)
			if err != nil {
				drop(e, fmt.Errorf("measure %s in round %d: %w", e.name, round+1, err))
			} else {
				t.samples = append(t.samples, one)
			}
			if subjectFailed() {
				return turns{failed: t.failed}
			}
		}
	}
	return t
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
