package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// worker sends one request after another until running ends, and counts how long each took. It is the
// i-th of those that run side by side.
type worker func(running context.Context, i int, count func(time.Duration)) error

// runWorkers runs work n times side by side for a time, each in a goroutine of its own until the
// context that it is given ends, and reports what they counted as wrk reports requests: a generator
// for what wrk cannot send. A worker that returns an error counts as one and is not replaced. It
// fails if nothing at all was counted.
func runWorkers(ctx context.Context, n int, duration time.Duration, work worker) (report, error) {
	running, stop := context.WithTimeout(ctx, duration)
	defer stop()
	var (
		all       sync.WaitGroup
		mu        sync.Mutex
		errs      []error
		histogram = newHistogram()
		start     = time.Now()
	)
	for i := range n {
		all.Go(func() {
			own := newHistogram()
			err := work(running, i, func(took time.Duration) { count(own, took) })
			mu.Lock()
			defer mu.Unlock()
			histogram.Merge(own)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if histogram.TotalCount() == 0 {
		return report{}, fmt.Errorf("nothing was answered: %w", errors.Join(errs...))
	}
	r := reportOf(histogram, time.Since(start))
	r.Errors.Read = int64(len(errs))
	return r, nil
}
