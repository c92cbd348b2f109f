package cache

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

func TestOutage_KnownHostsAreServedAndReadAgainAfterwards(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seed := func(ip string) {
		s.Do("RPUSH", "frontend:a.example", "a", ip)
		s.Do("RPUSH", "frontend:*.pool.example", "pool", ip)
	}
	seed("10.0.0.1")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, MaxAge: 50 * time.Millisecond, Log: log.Logger()})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	wantAnswer(t, c, "x.pool.example", "10.0.0.1")
	wantAnswer(t, c, "no.example", "unknown")
	s.Kill()
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	time.Sleep(100 * time.Millisecond) // let every entry pass its MaxAge
	for range 100 {
		wantAnswer(t, c, "a.example", "10.0.0.1")
		wantAnswer(t, c, "x.pool.example", "10.0.0.1")
		wantAnswer(t, c, "no.example", "unknown")
	}
	if n := c.m.staleDown.Get(); n != 200 {
		t.Errorf("stale answers: got %d, want 200", n)
	}
	begin := time.Now()
	if got := answer(c, "new.example"); got != "unavailable" {
		t.Errorf("a host that is not known: got %q, want unavailable", got)
	}
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("the answer took %v, want at most 0.3 s", took)
	}
	if !c.Ready() {
		t.Error("readiness turned back")
	}
	if err := c.Ping(context.Background()); err == nil {
		t.Error("ping succeeded without a server")
	}
	s.Restart()
	seed("10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.2")
	awaitAnswer(t, c, "x.pool.example", "10.0.0.2")
	if err := c.Ping(context.Background()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if n := strings.Count(log.String(), "store unavailable,"); n != 1 {
		t.Errorf("the outage was logged %d times, want once:\n%s", n, log.String())
	}
	if n := strings.Count(log.String(), "store available again"); n != 1 {
		t.Errorf("the end of the outage was logged %d times, want once:\n%s", n, log.String())
	}
}

func TestOutage_MaxStaleBoundsWhatIsServed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}, MaxStale: 300 * time.Millisecond})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	s.Kill()
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	wantAnswer(t, c, "a.example", "10.0.0.1")
	awaitAnswer(t, c, "a.example", "unavailable")
}

func TestOutage_AtStart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Kill()
	begin := time.Now()
	var log logtest.Buffer
	c := startUnready(t, Options{Driver: []string{s.URL()}, Log: log.Logger()})
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("Start took %v, want it to return at once", took)
	}
	begin = time.Now()
	wantAnswer(t, c, "a.example", "unavailable")
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("the answer took %v, want at most 0.3 s", took)
	}
	if c.Ready() {
		t.Error("ready without a store")
	}
	eventually(t, "the outage is logged", func() bool { return strings.Contains(log.String(), "store unavailable") })
	s.Restart()
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	if !c.Ready() {
		t.Error("not ready although the store answered")
	}
}

func TestOutage_FrozenServerIsNoticedAndSurvived(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	s.Stop()
	eventually(t, "the loss is noticed", func() bool {
		wantAnswer(t, c, "a.example", "10.0.0.1")
		return c.epoch.Load()&1 == 0
	})
	begin := time.Now()
	for i := range 20 {
		if got := answer(c, fmt.Sprintf("new%d.example", i)); got != "unavailable" {
			t.Errorf("a host that is not known: got %q, want unavailable", got)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("20 lookups without a store took %v", took)
	}
	s.Continue()
	s.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
}

// TestOutage_OneWaitIsEnough: every host was changed just before the server froze. The first lookup
// finds out that it does not answer; the others must not wait for the same.
func TestOutage_OneWaitIsEnough(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	loadLists(s, 200, "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	for i := range 200 {
		awaitAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	s.Stop()
	c.flushed()
	waits := c.m.misses.Get()
	for i := range 200 {
		wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	if n := c.m.misses.Get() - waits; n > 2 {
		t.Errorf("%d of 200 lookups of known hosts waited for a store that does not answer, want 1", n)
	}
	s.Continue()
	s.Do("RPUSH", "frontend:h7.example", "10.0.0.2")
	awaitAnswer(t, c, "h7.example", "10.0.0.1 10.0.0.2")
}

func TestOutage_MarkIsWrittenWhenTheStoreReturns(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.example")
	s.Stop()
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	for range 10 {
		c.MarkDead(&route, 0)
	}
	wantAnswer(t, c, "a.example", "10.0.0.2")
	s.Continue()
	eventually(t, "the mark is written", func() bool { return s.Int("EXISTS", "dead:a.example") == 1 })
	if n := c.m.marks[resultLocal].Get(); n != 1 {
		t.Errorf("ten reports of one failure became %d marks", n)
	}
	awaitAnswer(t, c, "a.example", "10.0.0.2")
}

// TestOutage_MarkWaitsForAStoreThatTakesNone is about servers that answer reads and refuse writes:
// what is marked counts here, and is written when they take it.
func TestOutage_MarkWaitsForAStoreThatTakesNone(t *testing.T) {
	t.Parallel()
	other := redistest.Start(t)
	for name, fault := range map[string]struct{ begin, end [][]string }{
		"READONLY": {
			[][]string{{"REPLICAOF", "127.0.0.1", strconv.Itoa(other.Port)}, {"CONFIG", "SET", "replica-serve-stale-data", "yes"}},
			[][]string{{"REPLICAOF", "NO", "ONE"}},
		},
		"OOM": {[][]string{{"CONFIG", "SET", "maxmemory", "1"}}, [][]string{{"CONFIG", "SET", "maxmemory", "0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			list := []string{"RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2"}
			s.Do(list...)
			if name == "READONLY" {
				other.Do(list...)
			}
			var log logtest.Buffer
			set := metrics.NewSet()
			c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger(), Metrics: set})
			route := mustLookup(t, c, "a.example")
			for _, command := range fault.begin {
				s.Do(command...)
			}
			if name == "READONLY" { // its lists are the other's now
				eventually(t, "it is a replica in step", func() bool { return other.Int("WAIT", "1", "100") == 1 })
				eventually(t, "the watch stands", func() bool { return c.epoch.Load()&1 == 1 })
			}
			c.MarkDead(&route, 0)
			wantAnswer(t, c, "a.example", "10.0.0.2")
			eventually(t, "the refusal is logged", func() bool { return strings.Contains(log.String(), "store takes no marks") })
			for range 100 {
				wantAnswer(t, c, "a.example", "10.0.0.2")
				wantAnswer(t, c, "no.example", "unknown") // reads go on
			}
			if text := gauges(set); !strings.Contains(text, "sluice_route_marks_waiting 1\n") ||
				!strings.Contains(text, `sluice_store_errors_total{cause="`+strings.ToLower(name)+`"}`) {
				t.Errorf("the metrics do not tell:\n%s", text)
			}
			for _, command := range fault.end {
				s.Do(command...)
			}
			eventually(t, "the mark is written", func() bool { return s.Int("EXISTS", "dead:a.example") == 1 })
			eventually(t, "the end is logged", func() bool { return strings.Contains(log.String(), "store takes marks again") })
			if n := strings.Count(log.String(), "store takes"); n != 2 {
				t.Errorf("%d lines about marks, want one at the start and one at the end:\n%s", n, log.String())
			}
			wantAnswer(t, c, "a.example", "10.0.0.2")
		})
	}
}

// gauges is what /metrics would say.
func gauges(set *metrics.Set) string {
	var text bytes.Buffer
	set.WritePrometheus(&text)
	return text.String()
}

// TestMark_HoldsBeforeItIsWritten: the store's acknowledgement shortens the local mark, so it must
// not come before that is made.
func TestMark_HoldsBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.example")
	c.mu.Lock() // which the local mark needs
	marked := make(chan bool)
	go func() { marked <- c.MarkDead(&route, 0) }()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s.Int("EXISTS", "dead:a.example") == 1 {
			t.Error("the mark was written before it counted here")
			break
		}
	}
	c.mu.Unlock()
	<-marked
	eventually(t, "the mark is written", func() bool { return s.Int("EXISTS", "dead:a.example") == 1 })
	s.Do("SREM", "dead:a.example", "0")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
}

func TestMark_IsNotWrittenWhenTheListShifted(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2", "10.0.0.3")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.example")
	s.Do("LREM", "frontend:a.example", "1", "10.0.0.1")
	c.MarkDead(&route, 1)
	eventually(t, "the mark is compared", func() bool { return c.m.marks[resultMoved].Get() == 1 })
	if n := s.Int("EXISTS", "dead:a.example"); n != 0 {
		t.Error("a mark of the wrong backend was written")
	}
	awaitAnswer(t, c, "a.example", "10.0.0.3")
}

func TestMark_RefusedMarkDoesNotBlockTheNext(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	s.Do("RPUSH", "frontend:b.example", "b", "10.0.0.1", "10.0.0.2")
	s.Do("SET", "dead:a.example", "a string")
	c := start(t, Options{Driver: []string{s.URL()}})
	a, b := mustLookup(t, c, "a.example"), mustLookup(t, c, "b.example")
	c.MarkDead(&a, 0)
	c.MarkDead(&b, 1)
	eventually(t, "the second mark is written", func() bool { return s.Int("EXISTS", "dead:b.example") == 1 })
	wantAnswer(t, c, "a.example", "10.0.0.2")
}

func TestMark_LocalMarkEndsWithDeadTTL(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "10.0.0.1", "10.0.0.2")
		c := start(t, Options{Driver: []string{r.driver()}, DeadTTL: 1500 * time.Millisecond})
		route := mustLookup(t, c, "a.example")
		c.MarkDead(&route, 0)
		wantAnswer(t, c, "a.example", "10.0.0.2")
		awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	})
}

func TestMark_AllRepetitionsOfAURLAreOneServer(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "10.0.0.1", "10.0.0.1", "10.0.0.2")
		r.set("b.example", "b", "10.0.0.1", "10.0.0.1")
		c := start(t, Options{Driver: []string{r.driver()}})
		a, b := mustLookup(t, c, "a.example"), mustLookup(t, c, "b.example")
		c.MarkDead(&a, 0)
		wantAnswer(t, c, "a.example", "10.0.0.2")
		c.MarkDead(&b, 0)
		wantAnswer(t, c, "b.example", "10.0.0.1")
	})
}

func TestRedis_WrongTypeConcernsItsOwnHostOnly(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("SET", "frontend:string.example", "no list")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "ftp://10.0.0.2", "10.0.0.3")
	s.Do("SET", "dead:a.example", "no set")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger()})
	for range 3 {
		wantAnswer(t, c, "string.example", "")
		wantAnswer(t, c, "a.example", "10.0.0.1 ftp://10.0.0.2 10.0.0.3")
		c.flushed()
	}
	route := mustLookup(t, c, "a.example")
	for i, b := range route.Frontend().Backends {
		if wantErr := i == 1; (b.Err != nil) != wantErr {
			t.Errorf("backend %d: error %v", i, b.Err)
		}
	}
	for _, host := range []string{"string.example", "a.example"} {
		if !strings.Contains(log.String(), "frontend="+host) {
			t.Errorf("nothing was logged about %s:\n%s", host, log.String())
		}
	}
	if n := strings.Count(log.String(), "frontend=string.example"); n != 1 {
		t.Errorf("the wrong type was logged %d times, want once", n)
	}
}
