package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// sample is one measurement of one contestant.
type sample struct {
	Work       string  `json:"work"`
	Contestant string  `json:"contestant"`
	Round      int     `json:"round"`
	CPUMicros  float64 `json:"cpu_micros_per_request"`
	Rate       float64 `json:"requests_per_second"`
	P50Millis  float64 `json:"p50_ms"`
	P99Millis  float64 `json:"p99_ms"`
	Wrk        report  `json:"wrk"`
}

// runScenario runs what o asks for and keeps the raw results.
func runScenario(ctx context.Context, o options, out io.Writer) error {
	present, absent := installed(o.contestants)
	for _, err := range absent {
		fmt.Fprintln(out, err)
	}
	if len(present) == 0 {
		return errors.New("nobody takes part")
	}
	o.contestants = present
	machine := lookMachine(ctx, &o)
	machine.print(out)
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if o.scenario == scenarioRouteChanges {
		return runRouteChanges(ctx, s, &o, machine, out)
	}
	return runRivals(ctx, s, &o, machine, out)
}

// runRivals measures every kind of work and prints a table for each as soon as it is done.
func runRivals(ctx context.Context, s *site, o *options, machine machine, out io.Writer) error {
	var samples []sample
	var failed error
	for _, w := range worksOf(*o) {
		list, err := measureWork(ctx, s, o, w)
		if err != nil {
			failed = fmt.Errorf("work %s: %w", w.name, err)
			break
		}
		printWork(out, o, w, list)
		samples = append(samples, list...)
	}
	// What was measured before a failure is kept, too.
	err := saveResults(o, out, results{Machine: machine, Options: describe(o), Samples: samples})
	return errors.Join(failed, err, savePicture(o, worksOf(*o), samples), samplesError(samples))
}

// measureWork starts the contestants, lets each of them warm up, and takes one sample of each in
// every round. Each round begins with another one, so that nobody always follows the same rival.
func measureWork(ctx context.Context, s *site, o *options, w work) ([]sample, error) {
	contestants, err := startContestants(ctx, s, w, o)
	if err != nil {
		return nil, err
	}
	defer stopContestants(contestants)
	for _, c := range contestants {
		if _, err := runWrk(ctx, c.url+w.path, w.script(true), o.connections, w.warmUp()); err != nil {
			return nil, fmt.Errorf("warm %s up: %w", c.name, err)
		}
		if err := c.cutLog(); err != nil {
			return nil, err
		}
	}
	var samples []sample
	for round := range o.rounds {
		for i := range contestants {
			c := contestants[(round+i)%len(contestants)]
			one, err := measure(ctx, c, o, w)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", c.name, err)
			}
			one.Round = round
			samples = append(samples, one)
		}
	}
	return samples, nil
}

// measure takes one sample.
func measure(ctx context.Context, c *contestant, o *options, w work) (sample, error) {
	before, err := c.proc.cpuTime()
	if err != nil {
		return sample{}, err
	}
	r, err := runWrk(ctx, c.url+w.path, w.script(false), o.connections, o.duration)
	if err != nil {
		return sample{}, err
	}
	after, err := c.proc.cpuTime()
	if err != nil {
		return sample{}, err
	}
	return newSample(c.name, w.name, after-before, r), c.checkLog()
}

// newSample brings the figures of one measurement into the units of the table.
func newSample(contestant, work string, cpu time.Duration, r report) sample {
	const microsPerMilli, microsPerSecond = 1e3, 1e6
	return sample{
		Work:       work,
		Contestant: contestant,
		CPUMicros:  float64(cpu.Microseconds()) / float64(r.Requests),
		Rate:       float64(r.Requests) / float64(r.Micros) * microsPerSecond,
		P50Millis:  float64(r.P50) / microsPerMilli,
		P99Millis:  float64(r.P99) / microsPerMilli,
		Wrk:        r,
	}
}

// samplesError reports the samples that are worth nothing because answers were missing or wrong.
func samplesError(samples []sample) error {
	var errs []error
	for _, one := range samples {
		if one.Wrk.Errors.total() > 0 {
			errs = append(errs, fmt.Errorf("work %s, round %d: errors of %s: %v",
				one.Work, one.Round+1, one.Contestant, one.Wrk.Errors))
		}
	}
	return errors.Join(errs...)
}
