package main

import (
	"fmt"
	"slices"
)

// figure is one column of the table.
type figure struct {
	title  string
	format string
	of     func(sample) float64
}

var figures = []figure{
	{"CPU µs/req", "%.1f", func(s sample) float64 { return s.CPUMicros }},
	{"requests/s", "%.0f", func(s sample) float64 { return s.Rate }},
	{"p50 ms", "%.2f", func(s sample) float64 { return s.P50Millis }},
	{"p99 ms", "%.2f", func(s sample) float64 { return s.P99Millis }},
	{"p99.9 ms", "%.2f", func(s sample) float64 { return s.P999Millis }},
	{"MiB", "%.1f", func(s sample) float64 { return s.MemoryMiB }},
}

// median returns the middle of values, or the mean of the two in the middle; values are not empty.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// column takes one figure of every sample of a contestant, by round.
func column(samples []sample, contestant string, of func(sample) float64) []float64 {
	var values []float64
	for _, s := range samples {
		if s.Contestant == contestant {
			values = append(values, of(s))
		}
	}
	return values
}

// whoOf lists the contestants of samples, in the order of the first round.
func whoOf(samples []sample) []string {
	var names []string
	for _, one := range samples {
		if !slices.Contains(names, one.Contestant) {
			names = append(names, one.Contestant)
		}
	}
	return names
}

// spread is the median of several ratios with the smallest and the largest of them.
type spread struct {
	median, min, max float64
	rounds           int
}

// ratio compares two contestants round by round: what the machine did to one of them in a round,
// it did to the other as well. Rounds in which the rival's figure is zero say nothing.
func ratio(subject, rival []float64) spread {
	var ratios []float64
	for i := range min(len(subject), len(rival)) {
		if rival[i] > 0 {
			ratios = append(ratios, subject[i]/rival[i])
		}
	}
	if len(ratios) == 0 {
		return spread{}
	}
	return spread{median(ratios), slices.Min(ratios), slices.Max(ratios), len(ratios)}
}

// span is the range.
func (s spread) span() span { return span{s.min, s.max} }

// String is the median, with the range if there is one.
func (s spread) String() string {
	switch s.rounds {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.2f", s.median)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.min, s.max)
}
