package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sample is one measurement of one contestant.
type sample struct {
	Work       string       `json:"work"`
	Contestant string       `json:"contestant"`
	Round      int          `json:"round"`
	CPUMicros  float64      `json:"cpu_micros_per_request"`
	Rate       float64      `json:"requests_per_second"`
	P50Millis  float64      `json:"p50_ms"`
	P99Millis  float64      `json:"p99_ms"`
	P999Millis float64      `json:"p999_ms"`
	MemoryMiB  float64      `json:"memory_mib"`
	Changes    float64      `json:"route_changes_per_second,omitempty"`
	Idle       *idleFigures `json:"idle,omitempty"`
	Report     report       `json:"report"`
}

// entrant is a contestant at a kind of work.
type entrant struct {
	*contestant
	work work
}

// runRivals measures every kind of work and prints a table for each as soon as it is done.
func runRivals(ctx context.Context, s *site, o *options, m machine, out io.Writer) error {
	var samples []sample
	var failed error
	for _, w := range worksOf(o) {
		list, err := measureWork(ctx, s, o, w, out)
		if err != nil {
			failed = fmt.Errorf("work %s: %w", w.name, err)
			break
		}
		printWork(out, o, w, list)
		samples = append(samples, list...)
	}
	// What was measured before a failure is kept, too.
	err := saveResults(o, out, results{Machine: m, Options: describe(o), Samples: samples})
	return errors.Join(failed, err, samplesError(samples), publishRivals(o, m, samples))
}

// publishRivals brings the page, its picture and the file of records that both are made from up to
// the kinds of work that were measured; the others stay as they were.
func publishRivals(o *options, m machine, samples []sample) error {
	if o.page == "" || len(samples) == 0 {
		return nil
	}
	file := filepath.Join(filepath.Dir(o.page), "rivals.json")
	all, err := loadRecords(file)
	if err != nil {
		return err
	}
	for _, w := range worksOf(o) {
		if list := ofWork(samples, w.name); len(list) > 0 {
			all[w.name] = newRecord(o, m, list)
		}
	}
	return errors.Join(all.save(file),
		saveText(o.picture, all.picture()),
		writeSection(o.page, "make loadtest", all.text()))
}

func ofWork(samples []sample, work string) []sample {
	return slices.DeleteFunc(slices.Clone(samples), func(one sample) bool { return one.Work != work })
}

// measureWork starts the contestants, lets each of them warm up, and takes samples in turns.
func measureWork(ctx context.Context, s *site, o *options, w work, out io.Writer) ([]sample, error) {
	names, leftOut := w.contestants(o)
	if len(leftOut) > 0 {
		fmt.Fprintf(out, "\n%s: left out %s: a change of routes is a reload there\n", w.name, strings.Join(leftOut, ", "))
	}
	contestants, err := startContestants(ctx, s, w, o, names)
	if err != nil {
		return nil, err
	}
	defer stopContestants(contestants)
	entrants := make([]entrant, len(contestants))
	for i, c := range contestants {
		entrants[i] = entrant{c, w}
	}
	return interleave(ctx, s, o, entrants)
}

// contestants are those of o that can do the work. Where routes change, sluice with routes that do
// not change is its own rival.
func (w work) contestants(o *options) (names, leftOut []string) {
	for _, name := range o.contestants {
		switch {
		case w.changes > 0 && name != "sluice" && name != "base":
			leftOut = append(leftOut, name)
		case w.logged && name == "nginx" && slices.Contains(o.contestants, "nginx+log"):
			// The two would show the same, at the price of another quarter of the time.
		default:
			names = append(names, name)
		}
	}
	if w.changes > 0 {
		names = append(names, atRest)
	}
	return names, leftOut
}

// interleave warms the entrants up and takes one sample of each in every round. Each round begins
// with another one, so that nobody always follows the same rival.
func interleave(ctx context.Context, s *site, o *options, entrants []entrant) ([]sample, error) {
	for _, e := range entrants {
		if err := e.warmUp(ctx, s, o); err != nil {
			return nil, fmt.Errorf("warm %s up: %w", e.name, err)
		}
		if err := e.cutLog(); err != nil {
			return nil, err
		}
	}
	rounds := o.rounds
	if entrants[0].work.idle > 0 {
		rounds = min(rounds, idleRounds)
	}
	var samples []sample
	for round := range rounds {
		for i := range entrants {
			e := entrants[(round+i)%len(entrants)]
			one, err := e.measure(ctx, s, o, round)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", e.name, err)
			}
			samples = append(samples, one)
		}
	}
	return samples, nil
}

// idleRounds are enough beside idle connections: making them takes most of the time, and what they cost
// is taken once.
const idleRounds = 2

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
		_, err := e.drive(ctx, s, o, warmUpTime)
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

// drive sends the entrant its work for a time.
func (e entrant) drive(ctx context.Context, s *site, o *options, duration time.Duration) (report, error) {
	if e.work.webSocket {
		return runWebSocket(ctx, s, e.url, o.connections, duration)
	}
	return runWrk(ctx, e.url+e.work.path, e.work.script(), o.connections, duration)
}

// measure takes the sample of one round.
func (e entrant) measure(ctx context.Context, s *site, o *options, round int) (sample, error) {
	var one sample
	var err error
	if e.work.again {
		if _, err := e.drive(ctx, s, o, 2*warmUpTime); err != nil {
			return sample{}, err
		}
	}
	switch {
	case e.work.clients > 0:
		one, err = latencyOf(ctx, e, o, e.work.clients, steadyRate)
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

// take drives the entrant and reads its accounts.
func (e entrant) take(ctx context.Context, s *site, o *options) (sample, error) {
	before, err := e.proc.cpuTime()
	if err != nil {
		return sample{}, err
	}
	r, err := e.drive(ctx, s, o, o.duration)
	if err != nil {
		return sample{}, err
	}
	after, err := e.proc.cpuTime()
	if err != nil {
		return sample{}, err
	}
	memory, err := e.proc.memory()
	if err != nil {
		return sample{}, err
	}
	one := newSample(e.name, e.work.name, after-before, r)
	one.MemoryMiB = float64(memory) / (1 << 20)
	if e.work.webSocket {
		return one, nil // A tunnel's line comes when it ends.
	}
	return one, e.checkLog()
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
		P999Millis: float64(r.P999) / microsPerMilli,
		Report:     r,
	}
}

// samplesError reports the samples that are worth nothing because answers were missing or wrong.
func samplesError(samples []sample) error {
	var errs []error
	for _, one := range samples {
		if one.Report.Errors.total() > 0 {
			errs = append(errs, fmt.Errorf("work %s, round %d: errors of %s: %v",
				one.Work, one.Round+1, one.Contestant, one.Report.Errors))
		}
	}
	return errors.Join(errs...)
}
