package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"sluice/internal/redistest"
)

// routeResult is what the scenario route-changes leaves behind.
type routeResult struct {
	Changes       int     `json:"changes"`
	ChangesPerSec float64 `json:"changes_per_second"`
	Wrk           report  `json:"wrk"`
}

// settleTimeout is how long the last change may take to be in effect everywhere.
const settleTimeout = 5 * time.Second

// minRateShare is how much of the wanted rate must be reached for the result to count.
const minRateShare = 0.9

// runRouteChanges keeps sluice under load while a writer changes the routes in use, and fails
// unless every request succeeded and the last changes are in effect at the end.
func runRouteChanges(ctx context.Context, s *site, o *options, machine machine, out io.Writer) error {
	w := work{name: scenarioRouteChanges, path: "/small", answer: smallBytes, hosts: 1}
	c, err := startSluice(ctx, s, w, o, "sluice", o.sluice)
	if err != nil {
		return err
	}
	defer c.stop()
	client, err := redistest.Dial("tcp", c.redis.Addr())
	if err != nil {
		return fmt.Errorf("change routes: %w", err)
	}
	defer client.Close()
	writer := newRouteWriter(client, s.backends, o.styles)
	if err := writer.seed(); err != nil {
		return err
	}
	// Every name is asked for once, so that each change meets a route in use.
	if err := writer.awaitEffect(ctx, c.url, readyTimeout); err != nil {
		return err
	}
	result, err := changeUnderLoad(ctx, c, o, writer)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nroute changes: %d connections for %v, %d changes (%.0f a second)\n", o.connections, o.duration,
		result.Changes, result.ChangesPerSec)
	fmt.Fprintf(out, "  requests %d (%.0f a second), errors %v\n", result.Wrk.Requests,
		float64(result.Wrk.Requests)/o.duration.Seconds(), result.Wrk.Errors)
	err = saveResults(o, out, results{Machine: machine, Options: describe(o), Routes: &result})
	return errors.Join(err, judge(ctx, c, o, writer, result))
}

// changeUnderLoad runs wrk and the writer side by side.
func changeUnderLoad(ctx context.Context, c *contestant, o *options, writer *routeWriter) (routeResult, error) {
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	written := make(chan error, 1)
	start := time.Now()
	var elapsed time.Duration
	go func() {
		err := writer.run(writing, o.rate, c.cutLog)
		elapsed = time.Since(start)
		written <- err
	}()
	r, err := runWrk(ctx, c.url+"/small", writer.script(), o.connections, o.duration)
	stopWriting()
	if writeErr := <-written; writeErr != nil {
		return routeResult{}, errors.Join(err, writeErr)
	}
	if err != nil {
		return routeResult{}, err
	}
	return routeResult{
		Changes:       writer.changes,
		ChangesPerSec: float64(writer.changes) / elapsed.Seconds(),
		Wrk:           r,
	}, nil
}

// judge decides whether the scenario passed.
func judge(ctx context.Context, c *contestant, o *options, writer *routeWriter, result routeResult) error {
	var errs []error
	if n := result.Wrk.Errors.total(); n > 0 {
		errs = append(errs, fmt.Errorf("route-changes: %v of %d requests failed, want none; sluice counted:\n%s",
			result.Wrk.Errors, result.Wrk.Requests, failureMetrics(c.adminURL)))
	}
	// The short form runs beside other tests: there the rate says nothing.
	if want := float64(o.rate) * minRateShare; !o.short && result.ChangesPerSec < want {
		errs = append(errs, fmt.Errorf("route-changes: %.1f changes a second, want %.1f: the machine is too busy",
			result.ChangesPerSec, want))
	}
	if err := writer.awaitEffect(ctx, c.url, settleTimeout); err != nil {
		errs = append(errs, fmt.Errorf("route-changes: a change is not in effect after %v: %w", settleTimeout, err))
	}
	return errors.Join(errs...)
}

// failureLine finds the metrics that say what went wrong, by cause.
var failureLine = regexp.MustCompile(`^sluice_.*(cause=|_retries|_dead)`)

// failureMetrics lists sluice's own counters that say which failures there were.
func failureMetrics(adminURL string) string {
	text, err := ask(adminURL+"/metrics", "localhost")
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if failureLine.MatchString(line) && !strings.HasSuffix(line, " 0") {
			lines = append(lines, "  "+line)
		}
	}
	return strings.Join(lines, "\n")
}
