package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// printWork prints the medians of one kind of work and the ratios of the first contestant to each
// of the others.
func printWork(out io.Writer, o *options, w work, samples []sample) {
	fmt.Fprintf(out, "\n%s: %d connections, %v a measurement, medians of interleaved rounds: %d\n",
		w.title, w.connections(o), o.duration, 1+samples[len(samples)-1].Round)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	printTitles(t)
	fmt.Fprintln(t, "errors\t")
	for _, name := range whoOf(samples) {
		fmt.Fprint(t, name, "\t")
		for _, f := range figures {
			fmt.Fprintf(t, f.format+"\t", median(column(samples, name, f.of)))
		}
		fmt.Fprintf(t, "%d\t\n", errorsOf(samples, name))
	}
	_ = t.Flush() // An output that is gone is no reason to stop measuring.
	printRatios(out, samples)
	for _, one := range samples {
		if one.Idle != nil && one.Round == 0 {
			fmt.Fprintf(out, "%s: %d idle connections, %.0f bytes each, %.1f %% of a core\n",
				one.Contestant, one.Idle.Connections, one.Idle.BytesEach, 100*one.Idle.CPUShare)
		}
		if one.Changes > 0 {
			fmt.Fprintf(out, "%s, round %d: %.0f route changes a second\n", one.Contestant, one.Round+1, one.Changes)
		}
	}
}

// printRatios prints how the first contestant compares, and everyone who took part with one host as
// well with itself: median and range of the rounds' ratios.
func printRatios(out io.Writer, samples []sample) {
	names := whoOf(samples)
	if len(names) < 2 {
		return
	}
	fmt.Fprintf(out, "%s as a multiple of each rival, and everyone of itself with one host, round by round: "+
		"median (smallest to largest)\n", names[0])
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	printTitles(t)
	fmt.Fprintln(t)
	for _, rival := range names[1:] {
		subject := names[0]
		if strings.HasSuffix(rival, oneHost) {
			subject = base(rival)
		}
		fmt.Fprint(t, rival, "\t")
		for _, f := range figures {
			fmt.Fprint(t, ratio(column(samples, subject, f.of), column(samples, rival, f.of)), "\t")
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
}

// printTitles prints the head of a table's columns but for the line's end.
func printTitles(t io.Writer) {
	fmt.Fprint(t, "\t")
	for _, f := range figures {
		fmt.Fprint(t, f.title, "\t")
	}
}

// errorsOf sums up what went wrong in all rounds of a contestant.
func errorsOf(samples []sample, contestant string) int64 {
	var n int64
	for _, s := range samples {
		if s.Contestant == contestant {
			n += s.Report.Errors.total()
		}
	}
	return n
}

// results is what one run leaves behind.
type results struct {
	Machine machine           `json:"machine"`
	Options map[string]string `json:"options"`
	Samples []sample          `json:"samples,omitempty"`
	Routes  *routeResult      `json:"route_changes,omitempty"`
	Memory  *memoryResult     `json:"memory,omitempty"`
	Latency *latencyResult    `json:"latency,omitempty"`
	Growth  growthRecords     `json:"growth,omitempty"`
}

// describe lists the options that a reader of results needs.
func describe(o *options) map[string]string {
	return map[string]string{
		"scenario":    o.scenario,
		"rounds":      fmt.Sprint(o.rounds),
		"duration":    o.duration.String(),
		"connections": fmt.Sprint(o.connections),
		"sluice":      o.sluice,
		"base":        o.base,
		"styles":      strings.Join(o.styles, ","),
		"config":      o.config,
	}
}

// saveResults writes r as a file of its own and says where.
func saveResults(o *options, out io.Writer, r results) error {
	if o.results == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	if err := os.MkdirAll(o.results, 0o755); err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	file := filepath.Join(o.results, time.Now().UTC().Format("20060102T150405.000Z")+"-"+o.scenario+".json")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	fmt.Fprintln(out, "\nraw results:", file)
	return nil
}
