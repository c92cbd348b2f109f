package main

import (
	"errors"
	"fmt"
	"time"
)

// sample is one measurement of one contestant.
type sample struct {
	Work       string       `json:"work"`
	Contestant string       `json:"contestant"`
	Round      int          `json:"round"`
	CPUMicros  float64      `json:"cpu_micros_per_request"`
	Rate       float64      `json:"requests_per_second"`
	P50Millis  float64      `json:"p50_ms"`
	P99Millis  float64      `json:"p99_ms"`
	P999Millis float64      `json:"p999_ms"`
	MemoryMiB  float64      `json:"memory_mib"`
	Elsewhere  float64      `json:"cores_busy_elsewhere"`
	Changes    float64      `json:"route_changes_per_second,omitempty"`
	Idle       *idleFigures `json:"idle,omitempty"`
	Report     report       `json:"report"`
}

// account runs drive and makes a sample of what that reports and of what the entrant's processes used
// meanwhile. drive calls begin when its connections are open: what came before does not count.
func (e entrant) account(drive func(begin func() error) (report, error)) (sample, error) {
	var before time.Duration
	var around usage
	r, err := drive(func() (err error) {
		if around, err = lookAround(); err == nil {
			before, err = e.proc.cpuTime()
		}
		return err
	})
	if err != nil {
		return sample{}, err
	}
	after, err := e.proc.cpuTime()
	if err != nil {
		return sample{}, err
	}
	memory, err := e.proc.memory()
	if err != nil {
		return sample{}, err
	}
	now, err := lookAround()
	if err != nil {
		return sample{}, err
	}
	one := newSample(e.name, e.work.name, after-before, r)
	one.Elsewhere = now.elsewhere(around)
	one.MemoryMiB = float64(memory) / (1 << 20)
	if e.work.unlogged() {
		return one, e.cutLog()
	}
	return one, e.checkLog()
}

// newSample brings the figures of one measurement into the units of the table.
func newSample(contestant, work string, cpu time.Duration, r report) sample {
	const microsPerMilli, microsPerSecond = 1e3, 1e6
	return sample{
		Work:       work,
		Contestant: contestant,
		CPUMicros:  float64(cpu.Microseconds()) / float64(r.Requests-r.Unanswered),
		Rate:       float64(r.Requests-r.Unanswered) / float64(r.Micros) * microsPerSecond,
		P50Millis:  float64(r.P50) / microsPerMilli,
		P99Millis:  float64(r.P99) / microsPerMilli,
		P999Millis: float64(r.P999) / microsPerMilli,
		Report:     r,
	}
}

// samplesError reports the samples that are worth nothing because answers were missing or wrong.
func samplesError(samples []sample) error {
	var errs []error
	for _, one := range samples {
		if one.Report.Errors.total() > 0 {
			errs = append(errs, fmt.Errorf("work %s, round %d: errors of %s: %v",
				one.Work, one.Round+1, one.Contestant, one.Report.Errors))
		}
	}
	return errors.Join(errs...)
}
