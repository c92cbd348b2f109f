package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/internal/chart"
)

// growthSeries is one quantity that grows while the rest stays.
type growthSeries struct {
	name   string
	title  string
	values []int
	work   func(s *site, value int) work
}

// bodySizes are those of the answers in their series.
var bodySizes = []int{128, 1 << 10, tenKBytes, 100 << 10, oneMBytes, 10 << 20}

// steadyRate is how many requests a second the series of connections shares among them: with more
// connections each of them asks less often, as clients do.
const steadyRate = 10_000

func seriesNames() []string {
	all := everySeries()
	names := make([]string, 0, len(all))
	for _, series := range all {
		names = append(names, series.name)
	}
	return names
}

// growing are the series that o asks for; in the short form each has two values.
func growing(o *options) []growthSeries {
	var list []growthSeries
	for _, series := range everySeries() {
		if !slices.Contains(o.series, series.name) {
			continue
		}
		if o.short {
			series.values = series.values[:2]
		}
		list = append(list, series)
	}
	return list
}

// everySeries lists the series. Small GETs over the flag's connections to one host with one backend,
// unless the series says otherwise.
func everySeries() []growthSeries {
	small := func(change func(w *work)) work {
		w := workNamed("small")
		change(&w)
		return w
	}
	return []growthSeries{
		{
			name: "hosts", title: "hosts in the table, asked for at random", values: []int{1, 100, 10_000, 100_000, 1_000_000},
			work: func(_ *site, n int) work { return small(func(w *work) { w.hosts, w.drawn = n, true }) },
		},
		{
			name:   "connections",
			title:  fmt.Sprintf("client connections that share %d requests/s", steadyRate),
			values: []int{1, 10, 100, 1000, idleConnections(idleWanted)},
			work:   func(_ *site, n int) work { return small(func(w *work) { w.clients = n }) },
		},
		{
			name: "backends", title: "backends of the host", values: []int{1, 10, 100, crowdBackends},
			work: func(s *site, n int) work {
				return small(func(w *work) { w.backends, w.again = s.crowdURLs(n), true })
			},
		},
		{
			name: "body", title: "bytes of the answer's body", values: bodySizes,
			work: func(_ *site, n int) work {
				return small(func(w *work) {
					w.path, w.answer = fmt.Sprintf("/b%d", n), n
					if n > oneMBytes {
						w.few = fewConnections
					}
				})
			},
		},
		{
			name: "GOMAXPROCS", title: "cores that sluice may use (GOMAXPROCS)", values: []int{1, 2},
			work: func(_ *site, n int) work {
				return small(func(w *work) { w.env = []string{fmt.Sprintf("GOMAXPROCS=%d", n)} })
			},
		},
	}
}

// growthPoint is what one value costs: medians of the rounds.
type growthPoint struct {
	Value     int     `json:"value"`
	CPUMicros float64 `json:"cpu_micros_per_request"`
	Rate      float64 `json:"requests_per_second"`
	P99Millis float64 `json:"p99_ms"`
	MemoryMiB float64 `json:"memory_mib"`
	Errors    int64   `json:"errors"`
}

// growthRecord is the last result of one series.
type growthRecord struct {
	Machine     string        `json:"machine"`
	Rounds      int           `json:"rounds"`
	Duration    string        `json:"duration"`
	Connections int           `json:"connections"`
	Elsewhere   float64       `json:"cores_busy_elsewhere"` // with other programs
	Points      []growthPoint `json:"points"`
}

// growthRecords are the results by the name of the series. They are kept in a file beside the page, so
// that one series can be measured anew by itself.
type growthRecords map[string]growthRecord

// runGrowth measures every series. Each is published as soon as it is done; one that fails costs the
// others nothing but is an error of the whole.
func runGrowth(ctx context.Context, s *site, o *options, m machine, out io.Writer) error {
	if err := s.startCrowd(ctx); err != nil {
		return err
	}
	result := growthRecords{}
	var failed []error
	for _, series := range growing(o) {
		one, err := measureSeries(ctx, s, o, series)
		if err != nil {
			failed = append(failed, fmt.Errorf("growth with %s: %w", series.name, err))
			fmt.Fprintf(out, "\nFAILED: %v\n", failed[len(failed)-1])
		}
		if ctx.Err() != nil {
			break
		}
		if len(one.Points) == 0 {
			continue
		}
		one.Machine = m.brief()
		result[series.name] = one
		printSeries(out, series, one)
		failed = append(failed, publishGrowth(o, series.name, one))
	}
	err := saveResults(o, out, results{Machine: m, Options: describe(o), Growth: result})
	return errors.Join(append(failed, err)...)
}

// publishGrowth brings the page, its picture and the file of records up to one series.
func publishGrowth(o *options, series string, one growthRecord) error {
	if o.page == "" {
		return nil
	}
	all, err := loadRecords[growthRecords](growthFile(o))
	if err != nil {
		return err
	}
	all[series] = one
	return errors.Join(saveRecords(growthFile(o), all), saveText(o.picture, all.picture()), all.write(o))
}

// growthFile is where the records are kept: beside the page.
func growthFile(o *options) string { return filepath.Join(filepath.Dir(o.page), "growth.json") }

// write writes the page's section.
func (all growthRecords) write(o *options) error {
	return writeSection(o.page, "make growth", all.text())
}

// measureSeries starts sluice once for each value, at the same time, and measures them in turns.
func measureSeries(ctx context.Context, s *site, o *options, series growthSeries) (growthRecord, error) {
	one := growthRecord{Rounds: o.rounds, Duration: o.duration.String(), Connections: o.connections}
	var entrants []entrant
	defer func() { stopEntrants(entrants) }()
	values := map[string]int{}
	for _, value := range series.values {
		w := series.work(s, value)
		c, err := startSluice(ctx, s, w, o, fmt.Sprintf("%s-%d", series.name, value), o.sluice)
		if err != nil {
			return one, err
		}
		values[c.name] = value
		entrants = append(entrants, entrant{c, w})
	}
	t := takeTurns(ctx, s, o, entrants)
	for _, name := range whoOf(t.samples) {
		one.Points = append(one.Points, growthPoint{
			Value:     values[name],
			CPUMicros: median(column(t.samples, name, cpuOf)),
			Rate:      median(column(t.samples, name, rateOf)),
			P99Millis: median(column(t.samples, name, p99Of)),
			MemoryMiB: median(column(t.samples, name, func(s sample) float64 { return s.MemoryMiB })),
			Errors:    errorsOf(t.samples, name),
		})
	}
	if len(t.samples) > 0 {
		one.Elsewhere = elsewhere(t.samples)
	}
	return one, errors.Join(append(t.failed, samplesError(t.samples))...)
}

// crowdBackends is how many backends the series of them has at most.
const crowdBackends = 1000

// crowdAddress is the i-th of many backends: all on one port, each with a loopback address of its own.
func crowdAddress(i, port int) string {
	const perNet = 250
	return fmt.Sprintf("127.1.%d.%d:%d", i/perNet, i%perNet+1, port)
}

// crowdURLs are n backends; a single one is the usual one.
func (s *site) crowdURLs(n int) []string {
	if n == 1 {
		return nil
	}
	urls := make([]string, n)
	for i := range urls {
		urls[i] = "http://" + crowdAddress(i, s.crowdPort)
	}
	return urls
}

// startCrowd starts one more nginx that answers on many addresses.
func (s *site) startCrowd(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.crowdPort = port
	addresses := make([]string, crowdBackends)
	for i := range addresses {
		addresses[i] = crowdAddress(i, port)
	}
	if s.crowd, err = s.startBackend("crowd", addresses); err != nil {
		return err
	}
	return s.crowd.await(ctx, readyTimeout, func() error {
		return checkAnswer("http://"+addresses[0]+"/small", hostName(0), smallBytes)
	})
}

// printSeries prints one table.
func printSeries(out io.Writer, series growthSeries, one growthRecord) {
	fmt.Fprintf(out, "\nby %s; other programs kept %.2f cores busy\n", series.title, one.Elsewhere)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, series.name, "\tCPU µs/req\trequests/s\tp99 ms\tMiB\terrors\t")
	for _, p := range one.Points {
		fmt.Fprintf(t, "%d\t%.1f\t%.0f\t%.2f\t%.0f\t%d\t\n", p.Value, p.CPUMicros, p.Rate, p.P99Millis, p.MemoryMiB, p.Errors)
	}
	_ = t.Flush() // An output that is gone is no reason to stop.
}

// text is the page's section.
func (all growthRecords) text() string {
	var b strings.Builder
	b.WriteString("![CPU time per request as quantities grow](growth.svg)\n\n" +
		"sluice alone; small GETs to one host with one backend, but for what grows.\n\n")
	for _, series := range everySeries() {
		one, ok := all[series.name]
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "| %s | CPU µs/request | × the first | requests/s | p99 ms | memory MiB |\n"+
			"|---|---|---|---|---|---|\n", series.title)
		for _, p := range one.Points {
			fmt.Fprintf(&b, "| %d | %.1f | %.2f | %.0f | %.2f | %.0f |\n", p.Value, p.CPUMicros,
				p.CPUMicros/one.Points[0].CPUMicros, p.Rate, p.P99Millis, p.MemoryMiB)
		}
		b.WriteString("\n")
	}
	all.writeOrigins(&b)
	return b.String()
}

// writeOrigins says what was measured when, on what and how.
func (all growthRecords) writeOrigins(b *strings.Builder) {
	var origins origins
	for _, series := range everySeries() {
		if one, ok := all[series.name]; ok {
			origins.add(fmt.Sprintf("%s; %d connections, medians of %d interleaved rounds of %s; "+
				"other programs kept %.1f cores busy",
				one.Machine, one.Connections, one.Rounds, one.Duration, one.Elsewhere), series.name)
		}
	}
	origins.write(b)
}

// picture draws hosts, connections and backends, whose requests are alike, as multiples of what the
// smallest value costs.
func (all growthRecords) picture() string {
	figure := chart.Lines{
		Title: "CPU time per request, as a multiple of the least", FormatX: "%.0f", FormatY: "%.1f", LogX: true,
	}
	for _, series := range everySeries() {
		points := all[series.name].Points
		if series.name == "body" || series.name == "GOMAXPROCS" || len(points) == 0 {
			continue
		}
		least := points[0].CPUMicros
		for _, p := range points {
			least = min(least, p.CPUMicros)
		}
		line := chart.Line{Name: series.name, Dots: true}
		for _, p := range points {
			line.X, line.Y = append(line.X, float64(p.Value)), append(line.Y, p.CPUMicros/least)
		}
		figure.Lines = append(figure.Lines, line)
	}
	return figure.SVG()
}
