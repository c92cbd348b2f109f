package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range and the precision of latencies: from 1 µs to 5 minutes, three digits.
const (
	lowestMicros  = 1
	highestMicros = 5 * 60 * 1_000_000
	digits        = 3
)

// newHistogram counts latencies in microseconds. It is for one goroutine at a time.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestMicros, highestMicros, digits)
}

// count counts one latency; longer ones than the range holds count as its end.
func count(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), lowestMicros), highestMicros)) // It fails for values outside the range.
}

// reportOf is what h says of the given time, in the form of wrk's figures.
func reportOf(h *hdrhistogram.Histogram, elapsed time.Duration) report {
	const median, tail, farTail = 50, 99, 99.9
	return report{
		Requests: h.TotalCount(),
		Micros:   elapsed.Microseconds(),
		P50:      h.ValueAtQuantile(median),
		P99:      h.ValueAtQuantile(tail),
		P999:     h.ValueAtQuantile(farTail),
		Max:      h.Max(),
	}
}
