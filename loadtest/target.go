package main

import (
	"fmt"
	"math"
	"strings"
)

// target is one of the aims that this project has set itself: a ratio that a kind of work should
// reach, taken in one run.
type target struct {
	work  string
	what  string // as the page names it
	rival string // whose row has the ratio; the subject's own figure is in its own row
	of    func(row) (value float64, of span, ok bool)
	bound float64
	least bool // the bound is the least that is wanted, not the most
}

// targets lists them by kind of work. Handshakes are held to CPU time, since their rate is the client's
// as much as the server's: 0.9 of the rate that the same CPU time allows is 1.11 of its time.
var targets = []target{
	cpuTarget("small", "nginx+log", 1),
	cpuTarget("small", "haproxy+log", 0.8),
	rateTarget("small", "nginx+log", 1),
	p99Target("small", "haproxy+log"),
	cpuTarget("10k", "nginx+log", 1),
	rateTarget("10k", "nginx+log", 0.95),
	p99Target("10k", "nginx+log"),
	cpuTarget("1m", "nginx+log", 0.8),
	rateTarget("1m", "nginx+log", 1),
	cpuTarget("post", "nginx+log", 1),
	rateTarget("post", "nginx+log", 0.95),
	p99Target("post", "nginx+log"),
	cpuTarget("tls", "nginx+log", 1),
	rateTarget("tls", "nginx+log", 0.95),
	p99Target("tls", "nginx+log"),
	cpuTarget("h2", "nginx+log", 1.3),
	cpuTarget("handshake", "nginx+log", 1.11),
	cpuTarget("close", "haproxy+log", 1),
	hostsTarget("hosts", 1.05),
	hostsTarget("hosts-1m", 1.1),
	{
		work: "idle", what: "KiB of memory for an idle connection", rival: "sluice", bound: 8,
		of: func(one row) (float64, span, bool) {
			if one.Idle == nil {
				return 0, span{}, false
			}
			return one.Idle.BytesEach / 1024, span{}, true
		},
	},
}

func cpuTarget(work, rival string, bound float64) target {
	return target{
		work: work, what: "CPU time × " + rival, rival: rival, bound: bound,
		of: func(one row) (float64, span, bool) { return one.CPURatio, one.CPURange, true },
	}
}

func rateTarget(work, rival string, bound float64) target {
	return target{
		work: work, what: "requests/s × " + rival, rival: rival, bound: bound, least: true,
		of: func(one row) (float64, span, bool) { return one.RateRatio, one.RateRange, true },
	}
}

func p99Target(work, rival string) target {
	return target{
		work: work, what: "p99 × " + rival, rival: rival, bound: 1,
		of: func(one row) (float64, span, bool) { return one.P99Ratio, one.P99Range, true },
	}
}

func hostsTarget(work string, bound float64) target {
	return target{
		work: work, what: "CPU time × its own with one host", rival: "sluice", bound: bound,
		of: func(one row) (float64, span, bool) {
			if one.OneHost == nil {
				return 0, span{}, false
			}
			return one.OneHost.CPURatio, one.OneHost.CPURange, true
		},
	}
}

// reached reports whether a value meets the target, as it is printed: with two digits.
func (t target) reached(value float64) bool {
	const printed = 100
	value = math.Round(value*printed) / printed
	if t.least {
		return value >= t.bound
	}
	return value <= t.bound
}

// writeTargets writes which targets the recorded figures meet.
func (all records) writeTargets(b *strings.Builder) {
	var lines strings.Builder
	met, known := 0, 0
	for _, t := range targets {
		one, ok := all[t.work].of(t.rival)
		if !ok {
			continue
		}
		value, of, ok := t.of(one)
		if !ok {
			continue
		}
		known++
		sign, answer := "≤", "**no**"
		if t.least {
			sign = "≥"
		}
		if t.reached(value) {
			met++
			answer = "yes"
		}
		fmt.Fprintf(&lines, "| %s | %s %s %.2f | %s | %s |\n",
			workNamed(t.work).title, t.what, sign, t.bound, withRange(value, of), answer)
	}
	if known == 0 {
		return
	}
	fmt.Fprintf(b, "The targets that this project has set itself, each a median of the rounds (smallest to largest); "+
		"%d of %d are reached:\n\n| work | target | measured | reached |\n|---|---|---|---|\n%s\n",
		met, known, lines.String())
}
