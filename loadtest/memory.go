package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/internal/chart"
	"sluice/internal/redistest"
)

// memoryHosts is how many names the mixed load asks for.
const memoryHosts = 1000

// memoryUnknown bounds the names that sluice remembers as belonging to nobody. By default there may be
// so many that half an hour of this load goes on filling their table.
const memoryUnknown = 1000

// Growth that fails the scenario: both a share and a number of bytes, since the collector lets the
// heap of so small a process swing by megabytes.
const (
	maxGrowthShare = 0.10
	maxGrowthBytes = 4 << 20
)

// memoryPoint is one look at sluice's own account of itself.
type memoryPoint struct {
	Seconds    float64 `json:"seconds"`
	RSS        float64 `json:"rss_bytes"`
	Heap       float64 `json:"heap_inuse_bytes"`
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"open_files"`
}

// memoryResult is what the scenario leaves behind.
type memoryResult struct {
	Requests map[string]int64 `json:"requests"` // by kind
	Changes  int              `json:"route_changes"`
	Points   []memoryPoint    `json:"points"`
}

// runMemory keeps sluice under a mixed load of o.rate requests a second, slow enough to leave the
// machine to others, and fails if a request fails or memory grows.
func runMemory(ctx context.Context, s *site, o *options, m machine, out io.Writer) error {
	w := work{
		name: "memory", path: "/small", answer: smallBytes, tls: true, hosts: memoryHosts, unknown: memoryUnknown,
	}
	c, err := startSluice(ctx, s, w, o, "sluice", o.sluice)
	if err != nil {
		return err
	}
	defer c.stop()
	mix := newMix(c, s)
	defer mix.close()
	result, err := watchMemory(ctx, c, s, o, mix)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nmixed load for %v at %d requests a second\n", o.duration, o.rate)
	for _, k := range mix.kinds {
		fmt.Fprintf(out, "  %-12s %d\n", k.name, result.Requests[k.name])
	}
	excused, failed := mix.failures()
	if excused > 0 {
		fmt.Fprintf(out, "  %d of them failed because this program was held up meanwhile\n", excused)
	}
	fmt.Fprintln(out, memorySummary(result.Points))
	err = saveResults(o, out, results{Machine: m, Options: describe(o), Memory: &result})
	return errors.Join(err,
		saveText(o.picture, memoryPicture(o, result.Points)),
		writeSection(o.page, "make loadtest-memory", memoryText(o, m, result)),
		failed, judgeMemory(o, result.Points))
}

// watchMemory runs the load, the route changes and the looks side by side.
func watchMemory(ctx context.Context, c *contestant, s *site, o *options, mix *mix) (memoryResult, error) {
	client, err := redistest.Dial("tcp", c.redis.Addr())
	if err != nil {
		return memoryResult{}, fmt.Errorf("change routes: %w", err)
	}
	defer client.Close()
	writer := newRouteWriter(client, s.backends, styleNames())
	writer.slow = mix.excuse
	if err := writer.seed(); err != nil {
		return memoryResult{}, err
	}
	if _, err := client.Do(rpush("frontend:"+webSocketHost, "ws", localURLs([]int{s.echoPort}))...); err != nil {
		return memoryResult{}, fmt.Errorf("route %s: %w", webSocketHost, err)
	}
	running, stop := context.WithTimeout(ctx, o.duration)
	defer stop()
	var all sync.WaitGroup
	var writing error
	all.Go(func() { mix.run(running, o.rate) })
	all.Go(func() { writing = writer.run(running, max(o.rate/40, 1), c.cutLog) })
	points, looking := lookAtMemory(running, c, o.duration)
	stop()
	all.Wait()
	if err := errors.Join(ctx.Err(), writing, looking); err != nil {
		return memoryResult{}, err
	}
	return memoryResult{Requests: mix.counts(), Changes: writer.changes, Points: points}, nil
}

// looks is about how many points a picture has.
const looks = 360

// lookAtMemory takes a point at regular times until ctx ends.
func lookAtMemory(ctx context.Context, c *contestant, length time.Duration) ([]memoryPoint, error) {
	tick := time.NewTicker(max(length/looks, 100*time.Millisecond))
	defer tick.Stop()
	start := time.Now()
	var points []memoryPoint
	for {
		select {
		case <-ctx.Done():
			return points, nil
		case <-tick.C:
			point, err := lookAt(c.adminURL)
			if err != nil {
				return nil, err
			}
			point.Seconds = time.Since(start).Seconds()
			points = append(points, point)
		}
	}
}

// lookAt reads sluice's metrics once.
func lookAt(adminURL string) (memoryPoint, error) {
	text, err := ask(adminURL+"/metrics", "localhost")
	if err != nil {
		return memoryPoint{}, err
	}
	var p memoryPoint
	for name, to := range map[string]*float64{
		"process_resident_memory_bytes": &p.RSS,
		"go_memstats_heap_inuse_bytes":  &p.Heap,
		"go_goroutines":                 &p.Goroutines,
		"process_open_fds":              &p.Files,
	} {
		if *to, err = metric(string(text), name); err != nil {
			return memoryPoint{}, err
		}
	}
	return p, nil
}

// metric finds the value of a series without labels.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("read metrics: no series %s", name)
}

// window are the figures of the points between two shares of the whole time.
func window(points []memoryPoint, from, to float64, of func(memoryPoint) float64) []float64 {
	part := points[int(from*float64(len(points))):int(to*float64(len(points)))]
	values := make([]float64, len(part))
	for i, p := range part {
		values[i] = of(p)
	}
	return values
}

func rssOf(p memoryPoint) float64        { return p.RSS }
func heapOf(p memoryPoint) float64       { return p.Heap }
func goroutinesOf(p memoryPoint) float64 { return p.Goroutines }
func filesOf(p memoryPoint) float64      { return p.Files }

// Parts of the time that are compared: after the start, when pools and tables have filled, and the end.
const (
	earlyFrom, earlyTo = 0.2, 0.4
	lateFrom, lateTo   = 0.8, 1.0
	fewestPoints       = 10
)

// judgeMemory fails if there is more at the end than there was early. The heap is judged by its
// lowest points, which come right after a collection.
func judgeMemory(o *options, points []memoryPoint) error {
	if len(points) < fewestPoints {
		return fmt.Errorf("memory: %d looks are too few to judge", len(points))
	}
	if o.short {
		return nil // Seconds are spent filling pools.
	}
	var errs []error
	for _, figure := range []struct {
		name string
		of   func(memoryPoint) float64
		sum  func([]float64) float64
	}{
		{"resident memory (median)", rssOf, median},
		{"heap (lowest)", heapOf, slices.Min[[]float64]},
	} {
		early := figure.sum(window(points, earlyFrom, earlyTo, figure.of))
		late := figure.sum(window(points, lateFrom, lateTo, figure.of))
		if late-early > max(maxGrowthBytes, maxGrowthShare*early) {
			errs = append(errs, fmt.Errorf("memory: %s grew from %s early to %s at the end",
				figure.name, mib(early), mib(late)))
		}
	}
	return errors.Join(errs...)
}

func mib(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }

// memorySummary compares early with late in one line each.
func memorySummary(points []memoryPoint) string {
	if len(points) < fewestPoints {
		return ""
	}
	var b strings.Builder
	for _, row := range memoryRows(points) {
		fmt.Fprintf(&b, "  %-20s early %s, late %s\n", row[0], row[1], row[2])
	}
	return strings.TrimRight(b.String(), "\n")
}

// memoryRows are the figures early and late.
func memoryRows(points []memoryPoint) [][3]string {
	early := func(of func(memoryPoint) float64) []float64 { return window(points, earlyFrom, earlyTo, of) }
	late := func(of func(memoryPoint) float64) []float64 { return window(points, lateFrom, lateTo, of) }
	whole := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	return [][3]string{
		{"RSS, median", mib(median(early(rssOf))), mib(median(late(rssOf)))},
		{"RSS, highest", mib(slices.Max(early(rssOf))), mib(slices.Max(late(rssOf)))},
		{"heap, lowest", mib(slices.Min(early(heapOf))), mib(slices.Min(late(heapOf)))},
		{"heap, median", mib(median(early(heapOf))), mib(median(late(heapOf)))},
		{"goroutines, median", whole(median(early(goroutinesOf))), whole(median(late(goroutinesOf)))},
		{"open files, median", whole(median(early(filesOf))), whole(median(late(filesOf)))},
	}
}

// memoryPicture draws RSS and heap over the time.
func memoryPicture(o *options, points []memoryPoint) string {
	rss := chart.Line{Name: "resident memory (RSS)"}
	heap := chart.Line{Name: "heap in use"}
	for _, p := range points {
		minutes := p.Seconds / 60
		rss.X, rss.Y = append(rss.X, minutes), append(rss.Y, p.RSS/(1<<20))
		heap.X, heap.Y = append(heap.X, minutes), append(heap.Y, p.Heap/(1<<20))
	}
	return chart.Lines{
		Title:   fmt.Sprintf("Memory under mixed load, %d requests a second", o.rate),
		FormatX: "%.0f min", FormatY: "%.0f MiB",
		Lines: []chart.Line{rss, heap},
	}.SVG()
}

// memoryText is the page's section.
func memoryText(o *options, m machine, r memoryResult) string {
	if len(r.Points) < fewestPoints {
		return ""
	}
	var b strings.Builder
	total := int64(0)
	for _, n := range r.Requests {
		total += n
	}
	fmt.Fprintf(&b, "%v of mixed load, %d requests and %d route changes, %s.\n\n", o.duration, total, r.Changes, m.brief())
	fmt.Fprintf(&b, "| | after %.0f %% of the time | at the end |\n|---|---|---|\n", 100*earlyFrom)
	for _, row := range memoryRows(r.Points) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row[0], row[1], row[2])
	}
	b.WriteString("\n![resident memory and heap over the time](memory.svg)\n")
	return b.String()
}
