package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"sluice/internal/chart"
	"sluice/internal/redistest"
)

// freshnessForm is one form of TestFreshness.
type freshnessForm struct {
	hosts, changes int
	rate           int // changes per second
	bound          time.Duration
}

// TestFreshness measures how long a change takes from the moment at which it is sent to the server
// until lookups follow it, while changes come at a steady rate. make freshness runs the long form,
// prints what it found and draws it.
func TestFreshness(t *testing.T) {
	form := freshnessForm{hosts: 2000, changes: 500, rate: 1000, bound: 500 * time.Millisecond}
	picture := os.Getenv("FRESHNESS")
	if picture != "" {
		form = freshnessForm{hosts: 1_000_000, changes: 30_000, rate: 1000, bound: 5 * time.Millisecond}
	} else {
		t.Parallel()
	}
	s := redistest.Start(t)
	loadLists(s, form.hosts, "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	warm(t, c, form.hosts)
	late := watchLateness()
	times := form.measure(t, c, s)
	lateness := late()
	p50, p99 := times[len(times)/2], times[len(times)*99/100]
	t.Logf("%d hosts, %d changes at %d/s: in effect after p50 %v, p99 %v, worst %v; meanwhile a goroutine that only sleeps woke late by p99 %v, worst %v",
		form.hosts, form.changes, form.rate, p50, p99, times[len(times)-1], lateness[len(lateness)*99/100], lateness[len(lateness)-1])
	if slow := c.m.staleSlow.Get(); slow > 0 {
		t.Logf("%d lookups did not get their answer within %v", slow, refreshWait)
	}
	if p99 > form.bound {
		t.Errorf("the 99th percentile is %v, want at most %v", p99, form.bound)
	}
	if picture != "" {
		drawFreshness(t, picture, form, times)
	}
}

// watchLateness watches by how much a goroutine that sleeps for a millisecond at a time wakes late, which
// no lookup is the cause of, until the returned function is called. That returns the times in rising
// order.
func watchLateness() (end func() []time.Duration) {
	done, all := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var times []time.Duration
		for {
			select {
			case <-done:
				slices.Sort(times)
				all <- times
				return
			default:
			}
			begin := time.Now()
			time.Sleep(time.Millisecond)
			times = append(times, time.Since(begin)-time.Millisecond)
		}
	}()
	return func() []time.Duration {
		close(done)
		return <-all
	}
}

// warm looks all hosts up once.
func warm(t testing.TB, c *Cache, hosts int) {
	t.Helper()
	eachInParallel(64, hosts, func(i int) {
		for range 100 {
			if _, err := c.Lookup(fmt.Appendf(nil, "h%d.example", i), testClient); err == nil {
				return
			}
		}
		t.Errorf("h%d.example is not found", i)
	})
}

// measure changes hosts at random, each at its moment, and returns how long they took, in rising
// order. One goroutine polls the host that was changed last, so each time ends with a real lookup.
func (form *freshnessForm) measure(t *testing.T, c *Cache, s *redistest.Server) []time.Duration {
	conn := s.Connect()
	defer conn.Close()
	times := make([]time.Duration, 0, form.changes)
	begin := time.Now()
	for i := range form.changes {
		host := fmt.Sprintf("h%d.example", rand.IntN(form.hosts))
		address := "10.1.0.0:" + strconv.Itoa(1+i%65535)
		if i == form.changes/2 {
			go runtime.GC() // a big table makes collections long: one is part of the measurement
		}
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(form.rate))))
		sent := time.Now()
		if _, err := conn.Do("LSET", frontendKey+host, "1", address); err != nil {
			t.Fatal(err)
		}
		for name := []byte(host); ; {
			r, err := c.Lookup(name, testClient)
			if err == nil && r.Frontend().Backends[0].URL == address {
				break
			}
			if time.Since(sent) > 10*time.Second {
				t.Fatalf("%s does not follow its list", host)
			}
			if time.Since(sent) > 300*time.Microsecond {
				time.Sleep(50 * time.Microsecond) // spinning on would take the core that Redis needs
			}
		}
		times = append(times, time.Since(sent))
	}
	if took := time.Since(begin).Seconds(); took > 1.5*float64(form.changes)/float64(form.rate) {
		t.Logf("only %.0f changes a second were made", float64(form.changes)/took)
	}
	slices.Sort(times)
	return times
}

// drawFreshness writes a histogram.
func drawFreshness(t *testing.T, path string, form freshnessForm, times []time.Duration) {
	bars := chart.Bars{
		Title: "From a change in Redis to its effect",
		Note: fmt.Sprintf("%d hosts, %d changes at %d/s: p50 %v, p99 %v, worst %v; changes (%%) by microseconds",
			form.hosts, form.changes, form.rate, times[len(times)/2].Round(time.Microsecond),
			times[len(times)*99/100].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond)),
		Format: "%.1f",
	}
	low := int64(0)
	for _, high := range []int64{50, 100, 150, 200, 300, 400, 600, 800, 1200, 2000, 5000, 1 << 40} {
		n := 0
		for _, d := range times {
			if micros := d.Microseconds(); micros >= low && micros < high {
				n++
			}
		}
		label := fmt.Sprintf("<%d", high)
		if high == 1<<40 {
			label = fmt.Sprintf("≥%d", low)
		}
		bars.Labels = append(bars.Labels, label)
		bars.Values = append(bars.Values, 100*float64(n)/float64(len(times)))
		low = high
	}
	save(t, path, bars.SVG())
}

// save writes a file below the repository's root, where the make targets run.
func save(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("..", path), []byte(text), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}
