// Package histogram counts durations in the fixed buckets that Prometheus knows how to read.
//
// The metrics library's own histogram has finer buckets, but labels them vmrange, which only VictoriaMetrics can turn
// into quantiles, and takes a lock for each value. This one costs two atomic additions.
package histogram

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// bounds are the upper bounds of the buckets; what is longer falls into +Inf. They range from what a cache hit on one
// machine takes to what a person gives up on.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second, 60 * time.Second,
}

// Histogram counts durations. It is safe for concurrent use. The zero value is ready; Sum registers its series.
type Histogram struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// New returns a histogram whose series are written with the set: name_bucket{le="..."}, name_sum (seconds) and
// name_count. name carries no labels.
func New(set *metrics.Set, name string) *Histogram {
	h := &Histogram{}
	Sum(set, name, []*Histogram{h})
	return h
}

// Sum writes the series of New for what all of the parts count together. A value is counted in one of them: cores that
// each have a part do not wait for each other's cache lines. parts must not be changed afterwards.
func Sum(set *metrics.Set, name string, parts []*Histogram) {
	for i := range len(bounds) + 1 {
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i].Seconds(), 'g', -1, 64)
		}
		set.NewGauge(name+`_bucket{le="`+le+`"}`, func() float64 { return upTo(parts, i) })
	}
	set.NewGauge(name+"_sum", func() float64 {
		var total time.Duration
		for _, h := range parts {
			total += time.Duration(h.sum.Load())
		}
		return total.Seconds()
	})
	set.NewGauge(name+"_count", func() float64 { return upTo(parts, len(bounds)) })
}

// Update counts a duration.
func (h *Histogram) Update(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// upTo returns how many durations lie within bucket i and those below it.
func upTo(parts []*Histogram, i int) float64 {
	var n uint64
	for _, h := range parts {
		for j := range i + 1 {
			n += h.counts[j].Load()
		}
	}
	return float64(n)
}
