package main

import (
	"fmt"
	"math"
	"strings"
)

// losses are the columns in which a rival may do better.
var losses = []struct {
	title string
	of    func(row) float64
	less  bool // less than 1 is worse than the rival, not more
}{
	{"CPU time", func(one row) float64 { return one.CPURatio }, false},
	{"requests/s", func(one row) float64 { return one.RateRatio }, true},
	{"p99", func(one row) float64 { return one.P99Ratio }, false},
}

// writeLosses writes where the subject does worse than a rival that writes a log, too.
func (all records) writeLosses(b *strings.Builder) {
	var lines strings.Builder
	for _, rival := range []string{"nginx+log", "haproxy+log"} {
		for _, loss := range losses {
			var list []string
			all.each(func(w work, r record) {
				one, ok := r.of(rival)
				const printed = 100
				value := math.Round(loss.of(one)*printed) / printed
				if ok && value != 0 && value != 1 && (value < 1) == loss.less {
					list = append(list, fmt.Sprintf("%#q %.2f", w.name, value))
				}
			})
			if len(list) > 0 {
				fmt.Fprintf(&lines, "| %s × %s | %s |\n", loss.title, rival, strings.Join(list, ", "))
			}
		}
	}
	if lines.Len() > 0 {
		fmt.Fprintf(b, "Where sluice loses to a rival that writes a log, too:\n\n| | in |\n|---|---|\n%s\n", lines.String())
	}
}
