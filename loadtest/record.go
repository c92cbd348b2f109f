package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/internal/chart"
)

// records are the last results of each kind of work, by its name. They are kept in a file beside the
// page, so that one kind of work can be measured anew by itself.
type records map[string]record

// record is the result of one kind of work.
type record struct {
	Machine     string    `json:"machine"`
	Versions    []string  `json:"versions"`
	Time        time.Time `json:"time"`
	Rounds      int       `json:"rounds"`
	Duration    string    `json:"duration"`
	Connections int       `json:"connections"`
	Elsewhere   float64   `json:"cores_busy_elsewhere"` // with other programs, the median of all samples
	Rows        []row     `json:"rows"`                 // the first one is the subject
}

// row is one contestant's: medians of its rounds, and the median of the rounds' ratios of the
// subject's figure to its own.
type row struct {
	Contestant string       `json:"contestant"`
	CPUMicros  float64      `json:"cpu_micros_per_request"`
	Rate       float64      `json:"requests_per_second"`
	P50Millis  float64      `json:"p50_ms"`
	P99Millis  float64      `json:"p99_ms"`
	P999Millis float64      `json:"p999_ms"`
	MemoryMiB  float64      `json:"memory_mib"`
	Errors     int64        `json:"errors"`
	CPURatio   float64      `json:"cpu_ratio"`
	RateRatio  float64      `json:"rate_ratio"`
	P99Ratio   float64      `json:"p99_ratio"`
	CPURange   span         `json:"cpu_ratio_range"` // smallest and largest of the rounds
	RateRange  span         `json:"rate_ratio_range"`
	P99Range   span         `json:"p99_ratio_range"`
	OneHost    *hostsGrowth `json:"beside_one_host,omitempty"`
	Changes    float64      `json:"route_changes_per_second,omitempty"`
	Idle       *idleFigures `json:"idle,omitempty"`
}

// span is a smallest and a largest value.
type span [2]float64

// hostsGrowth is what many hosts cost a contestant as a multiple of what one host costs it, round by
// round.
type hostsGrowth struct {
	CPURatio float64 `json:"cpu_ratio"`
	CPURange span    `json:"cpu_ratio_range"`
}

// elsewhere is how many processors other programs kept busy.
func elsewhere(samples []sample) float64 {
	values := make([]float64, len(samples))
	for i, one := range samples {
		values[i] = one.Elsewhere
	}
	return median(values)
}

// muchElsewhere is from where a page tells that the machine was not quiet.
const muchElsewhere = 0.1

func cpuOf(s sample) float64  { return s.CPUMicros }
func rateOf(s sample) float64 { return s.Rate }
func p99Of(s sample) float64  { return s.P99Millis }

// newRecord sums up the samples of one kind of work.
func newRecord(o *options, m machine, w work, samples []sample) record {
	r := record{
		Machine: m.brief(), Versions: m.programs(), Time: m.Time,
		Rounds: 1 + samples[len(samples)-1].Round, Duration: o.duration.String(), Connections: w.connections(o),
		Elsewhere: elsewhere(samples),
	}
	names := whoOf(samples)
	for _, name := range names {
		mid := func(of func(sample) float64) float64 { return median(column(samples, name, of)) }
		to := func(of func(sample) float64) spread {
			return ratio(column(samples, names[0], of), column(samples, name, of))
		}
		cpu, rate, p99 := to(cpuOf), to(rateOf), to(p99Of)
		one := row{
			Contestant: name, CPUMicros: mid(cpuOf), Rate: mid(rateOf), P99Millis: mid(p99Of),
			P50Millis:  mid(func(s sample) float64 { return s.P50Millis }),
			P999Millis: mid(func(s sample) float64 { return s.P999Millis }),
			MemoryMiB:  mid(func(s sample) float64 { return s.MemoryMiB }),
			Changes:    mid(func(s sample) float64 { return s.Changes }),
			Errors:     errorsOf(samples, name),
			CPURatio:   cpu.median, RateRatio: rate.median, P99Ratio: p99.median,
			CPURange: cpu.span(), RateRange: rate.span(), P99Range: p99.span(),
			OneHost: besideOneHost(samples, name),
		}
		// The first round's idle connections came to a proxy that had never had as many.
		first := slices.IndexFunc(samples, func(s sample) bool { return s.Contestant == name })
		one.Idle = samples[first].Idle
		r.Rows = append(r.Rows, one)
	}
	return r
}

// besideOneHost compares a contestant with itself; nil if it did not take part with one host.
func besideOneHost(samples []sample, name string) *hostsGrowth {
	if !slices.Contains(whoOf(samples), name+oneHost) {
		return nil
	}
	cpu := ratio(column(samples, name, cpuOf), column(samples, name+oneHost, cpuOf))
	return &hostsGrowth{CPURatio: cpu.median, CPURange: cpu.span()}
}

// of returns the contestant's row; ok is false if it took no part.
func (r record) of(contestant string) (found row, ok bool) {
	i := slices.IndexFunc(r.Rows, func(one row) bool { return one.Contestant == contestant })
	if i < 0 {
		return row{}, false
	}
	return r.Rows[i], true
}

// picture draws CPU time per request.
func (all records) picture() string {
	figure := chart.Groups{Title: "CPU time per request; shorter is better", Format: "%.1f µs"}
	for _, w := range works {
		r, ok := all[w.name]
		if !ok {
			continue
		}
		group := chart.Group{Title: w.title}
		for i, one := range r.Rows {
			if strings.HasSuffix(one.Contestant, oneHost) {
				continue // The page has a table for these.
			}
			group.Bars = append(group.Bars, chart.Bar{Name: one.Contestant, Value: one.CPUMicros, Ours: i == 0})
		}
		figure.Groups = append(figure.Groups, group)
	}
	return figure.SVG()
}

// text is the page's section.
func (all records) text() string {
	var b strings.Builder
	all.writeRatios(&b)
	all.writeHosts(&b)
	all.writeChurn(&b)
	b.WriteString("\n![CPU time per request, by kind of work](rivals.svg)\n\n")
	all.writeTargets(&b)
	all.writeLosses(&b)
	all.writeIdle(&b)
	b.WriteString("All figures, closed loop: medians of the rounds.\n\n" +
		"| work | | CPU µs/request | requests/s | p50 ms | p99 ms | p99.9 ms | memory MiB | errors |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	all.each(func(w work, r record) {
		for _, one := range r.Rows {
			fmt.Fprintf(&b, "| %s | %s | %.1f | %.0f | %.2f | %.2f | %.2f | %.0f | %d |\n", w.name, one.Contestant,
				one.CPUMicros, one.Rate, one.P50Millis, one.P99Millis, one.P999Millis, one.MemoryMiB, one.Errors)
		}
	})
	b.WriteString("\n")
	all.writeOrigins(&b)
	return b.String()
}

// each calls f for every kind of work that was measured.
func (all records) each(f func(w work, r record)) {
	for _, w := range works {
		if r, ok := all[w.name]; ok {
			f(w, r)
		}
	}
}

// ratioColumns are the rivals of the table of ratios.
var ratioColumns = []string{"nginx", "nginx+log", "haproxy+log"}

// writeRatios writes the table that matters.
func (all records) writeRatios(b *strings.Builder) {
	b.WriteString("| work | sluice µs/request | × nginx | × nginx+log | × haproxy+log |" +
		" requests/s × nginx+log | × haproxy+log | p99 × nginx+log | × haproxy+log |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	all.each(func(w work, r record) {
		if w.changes > 0 {
			return // It has no rivals but itself.
		}
		fmt.Fprintf(b, "| %s (`%s`) | %.1f |", w.title, w.name, r.Rows[0].CPUMicros)
		for _, name := range ratioColumns {
			one, ok := r.of(name)
			writeRatio(b, one.CPURatio, ok)
		}
		for _, of := range []func(row) float64{
			func(one row) float64 { return one.RateRatio }, func(one row) float64 { return one.P99Ratio },
		} {
			for _, name := range ratioColumns[1:] {
				one, ok := r.of(name)
				writeRatio(b, of(one), ok)
			}
		}
		b.WriteString("\n")
	})
}

// writeHosts writes what many hosts cost everyone beside one.
func (all records) writeHosts(b *strings.Builder) {
	columns := []string{"sluice", "nginx+log", "haproxy+log"}
	var lines strings.Builder
	all.each(func(w work, r record) {
		if !w.besideOne || r.Rows[0].OneHost == nil {
			return
		}
		fmt.Fprintf(&lines, "| %s |", w.title)
		for _, name := range columns {
			if one, ok := r.of(name); ok && one.OneHost != nil {
				fmt.Fprintf(&lines, " %s |", withRange(one.OneHost.CPURatio, one.OneHost.CPURange))
			} else {
				lines.WriteString(" – |")
			}
		}
		lines.WriteString("\n")
	})
	if lines.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "\nEach of them as a multiple of itself with one host, in the same rounds and asked by the same "+
		"generator, with the smallest and the largest of the rounds:\n\n| CPU time per request | %s |\n"+
		"|---|---|---|---|\n%s", strings.Join(columns, " | "), lines.String())
}

// withRange writes a ratio with the range of its rounds.
func withRange(value float64, of span) string {
	if of[0] == of[1] {
		return fmt.Sprintf("%.2f", value)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", value, of[0], of[1])
}

// writeChurn says what changes of routes cost.
func (all records) writeChurn(b *strings.Builder) {
	all.each(func(w work, r record) {
		if rest, ok := r.of(atRest); ok {
			fmt.Fprintf(b, "\nWhile %.0f of %d routes change each second a small GET costs %s of what it costs while "+
				"nothing changes, the reading of the changed routes included. The others take no part: nginx would need a new map "+
				"and a reload for each change, HAProxy a command on its socket, and neither watches a store.\n",
				r.Rows[0].Changes, w.hosts, withRange(rest.CPURatio, rest.CPURange))
		}
	})
}

func writeRatio(b *strings.Builder, value float64, ok bool) {
	if ok {
		fmt.Fprintf(b, " %.2f |", value)
	} else {
		b.WriteString(" – |")
	}
}

// writeIdle writes what idle connections cost.
func (all records) writeIdle(b *strings.Builder) {
	var lines strings.Builder
	all.each(func(w work, r record) {
		for _, one := range r.Rows {
			if one.Idle != nil {
				kind := "plain"
				if w.tls {
					kind = "TLS 1.3"
				}
				fmt.Fprintf(&lines, "| %s | %d | %s | %.1f | %.1f |\n", kind, one.Idle.Connections, one.Contestant,
					one.Idle.BytesEach/1024, 100*one.Idle.CPUShare)
			}
		}
	})
	if lines.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "Idle keep-alive connections, each after one request and %v of rest; "+
		"the kernel's buffers are not counted.\n\n"+
		"| | connections | | KiB each | %% of a core |\n|---|---|---|---|---|\n%s\n", settleTime, lines.String())
}

// writeOrigins says what was measured when, on what and how.
func (all records) writeOrigins(b *strings.Builder) {
	var origins origins
	all.each(func(w work, r record) {
		origins.add(fmt.Sprintf("%s; %s; %d connections, medians of %d interleaved rounds of %s", r.Machine,
			strings.Join(r.Versions, ", "), r.Connections, r.Rounds, r.Duration), w.name)
	})
	origins.write(b)
	var busy []string
	all.each(func(w work, r record) {
		if r.Elsewhere >= muchElsewhere {
			busy = append(busy, fmt.Sprintf("%#q %.1f", w.name, r.Elsewhere))
		}
	})
	if len(busy) > 0 {
		fmt.Fprintf(b, "The machine was not quiet: other programs kept cores busy meanwhile, %s.\n", strings.Join(busy, ", "))
	}
}
