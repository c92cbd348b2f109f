package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/internal/chart"
)

// loads are the shares of the first contestant's capacity at which latencies are taken.
var loads = []float64{0.3, 0.6, 0.9}

// capacityRounds is how often each contestant's capacity is taken.
const capacityRounds = 3

// latencyResult is what the scenario leaves behind.
type latencyResult struct {
	Capacity map[string]float64 `json:"capacity"` // by contestant
	Rates    []float64          `json:"rates"`    // requests per second
	Samples  []sample           `json:"samples"`  // Work is the name of the load
}

// runLatency measures latencies at fixed rates, the same for all: shares of the first contestant's
// capacity with the same generator.
func runLatency(ctx context.Context, s *site, o *options, m machine, out io.Writer) error {
	w := workNamed("small")
	entries, _ := w.entries(o)
	entrants, missing := startEntrants(ctx, s, o, entries)
	if len(entrants) == 0 {
		return errors.Join(missing...)
	}
	defer stopEntrants(entrants)
	result, failed := measureLatency(ctx, o, entrants)
	failed = append(missing, failed...)
	if len(result.Samples) == 0 {
		return errors.Join(append(failed, ctx.Err())...)
	}
	names := whoOf(result.Samples)
	printLatency(out, o, names, result)
	err := saveResults(o, out, results{Machine: m, Options: describe(o), Latency: &result})
	return errors.Join(errors.Join(failed...), err, samplesError(result.Samples),
		saveText(o.picture, latencyPicture(names, result)),
		writeSection(o.page, "make loadtest latency", latencyText(o, m, names, result)))
}

// measureLatency takes the capacities, then the latencies. One that fails takes no further part.
func measureLatency(ctx context.Context, o *options, entrants []entrant) (latencyResult, []error) {
	l := newLineup(entrants)
	result := latencyResult{Capacity: map[string]float64{}}
	for _, e := range entrants {
		var rates []float64
		for range min(o.rounds, capacityRounds) {
			one, err := e.atRate(ctx, o, o.connections, 0)
			if err != nil {
				l.drop(e, fmt.Errorf("measure the capacity of %s: %w", e.name, err))
				break
			}
			rates = append(rates, one.Rate)
		}
		if len(rates) > 0 {
			result.Capacity[e.name] = median(rates)
		}
	}
	for _, load := range loads {
		result.Rates = append(result.Rates, load*result.Capacity[l.subject])
	}
	var samples []sample
	for round := range o.rounds {
		for i, load := range loads {
			order := l.entrants
			for j := range order {
				if l.over(ctx) {
					break
				}
				e := order[(round+j)%len(order)]
				one, err := e.atRate(ctx, o, o.connections, result.Rates[i])
				if err != nil {
					l.drop(e, fmt.Errorf("measure %s at %s: %w", e.name, loadName(load), err))
					continue
				}
				one.Round, one.Work = round, loadName(load)
				samples = append(samples, one)
			}
		}
	}
	result.Samples = l.remaining(ctx, samples)
	return result, l.failed
}

func loadName(load float64) string { return fmt.Sprintf("%.0f %%", 100*load) }

// latencyFigures are the columns of the table.
var latencyFigures = []figure{figures[2], figures[3], figures[4], figures[0]}

// printLatency prints the table.
func printLatency(out io.Writer, o *options, names []string, r latencyResult) {
	fmt.Fprintf(out, "\nlatency of small GETs at fixed rates, %d connections, %v a measurement, medians of rounds: %d\n",
		o.connections, o.duration, o.rounds)
	for _, name := range names {
		fmt.Fprintf(out, "  capacity of %s with this generator: %.0f requests/s\n", name, r.Capacity[name])
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "load\tfor\t")
	for _, f := range latencyFigures {
		fmt.Fprint(t, f.title, "\t")
	}
	fmt.Fprintln(t)
	for _, load := range loads {
		for _, name := range names {
			fmt.Fprint(t, loadName(load), "\t", name, "\t")
			for _, f := range latencyFigures {
				fmt.Fprintf(t, f.format+"\t", median(column(ofWork(r.Samples, loadName(load)), name, f.of)))
			}
			fmt.Fprintln(t)
		}
	}
	_ = t.Flush() // An output that is gone is no reason to stop.
}

// latencyText is the page's section.
func latencyText(o *options, m machine, names []string, r latencyResult) string {
	var b strings.Builder
	b.WriteString("| small GETs per second | | p50 ms | p99 ms | p99.9 ms | CPU µs/request |\n" +
		"|---|---|---|---|---|---|\n")
	for i, load := range loads {
		for _, name := range names {
			fmt.Fprintf(&b, "| %.0f (%s) | %s |", r.Rates[i], loadName(load), name)
			for _, f := range latencyFigures {
				fmt.Fprintf(&b, " "+f.format+" |", median(column(ofWork(r.Samples, loadName(load)), name, f.of)))
			}
			b.WriteString("\n")
		}
	}
	capacities := make([]string, 0, len(names))
	for _, name := range names {
		capacities = append(capacities, fmt.Sprintf("%s %.0f", name, r.Capacity[name]))
	}
	fmt.Fprintf(&b, "\n![p99 at fixed rates](latency.svg)\n\nThe shares are of %s's capacity with this generator, "+
		"which takes more of the machine than wrk does. Capacities with it, in requests/s: %s. %s; %s; %d connections, "+
		"medians of %d interleaved rounds of %v; other programs kept %.1f cores busy.\n",
		names[0], strings.Join(capacities, ", "), m.brief(), strings.Join(m.programs(), ", "),
		o.connections, o.rounds, o.duration, elsewhere(r.Samples))
	return b.String()
}

// latencyPicture draws the 99th percentiles.
func latencyPicture(names []string, r latencyResult) string {
	figure := chart.Groups{Title: "99th percentile at fixed rates; shorter is better", Format: "%.2f ms"}
	for i, load := range loads {
		group := chart.Group{Title: fmt.Sprintf("%.0f requests/s, %s of sluice's capacity", r.Rates[i], loadName(load))}
		for _, name := range names {
			value := median(column(ofWork(r.Samples, loadName(load)), name, p99Of))
			group.Bars = append(group.Bars, chart.Bar{Name: name, Value: value, Ours: slices.Index(names, name) == 0})
		}
		figure.Groups = append(figure.Groups, group)
	}
	return figure.SVG()
}
