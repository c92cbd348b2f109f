package cache

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// loadLists fills a server with n hosts whose only backend is address.
func loadLists(s *redistest.Server, n int, address string) {
	s.Load(func(yield func(args ...string)) {
		for i := range n {
			key := fmt.Sprintf("frontend:h%d.example", i)
			yield("DEL", key)
			yield("RPUSH", key, "id", address)
		}
	})
}

// inMemory tells whether the table says address for name, and says so with the store's word, without
// a lookup.
func inMemory(c *Cache, name, address string) bool {
	e := c.table.findString(name)
	if e == nil {
		return false
	}
	v := e.value.Load()
	f := v.frontend
	if f == nil && v.target != nil {
		f = v.target.value.Load().frontend
	}
	return v.epoch == c.epoch.Load() && f != nil && len(f.Backends) == 1 && f.Backends[0].URL == address
}

func TestSweep_AfterAnOutageEverythingIsReadAgain(t *testing.T) {
	t.Parallel()
	const n = 5000
	s := redistest.Start(t)
	loadLists(s, n, "10.0.0.1")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.1")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger()})
	for i := range n {
		awaitAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	awaitAnswer(t, c, "x.pool.example", "10.0.0.1")
	// The edge is locked out, and what changes meanwhile is announced to nobody.
	s.Do("CONFIG", "SET", "requirepass", "secret")
	s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	s.Do("CLIENT", "KILL", "TYPE", "pubsub")
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	for i := range 100 {
		wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	wantAnswer(t, c, "new.example", "unavailable")
	s.Do("EVAL", "for i = 0, ARGV[1] - 1 do redis.call('LSET', 'frontend:h' .. i .. '.example', 1, '10.0.0.2') end "+
		"redis.call('LSET', 'frontend:*.pool.example', 1, '10.0.0.2')", "0", fmt.Sprint(n))
	s.Do("CONFIG", "SET", "requirepass", "")
	for i := range n {
		name := fmt.Sprintf("h%d.example", i)
		eventually(t, name+" is read again", func() bool { return inMemory(c, name, "10.0.0.2") })
	}
	eventually(t, "the derived name is read again", func() bool { return inMemory(c, "x.pool.example", "10.0.0.2") })
	eventually(t, "the rate is known", func() bool { return c.sweep.rate.Load() != 0 })
	t.Logf("%d names a second", int(math.Float64frombits(c.sweep.rate.Load())))
	if !strings.Contains(log.String(), "stale_answers=100 refused=1") {
		t.Errorf("the end of the outage does not say what it cost:\n%s", log.String())
	}
}

func TestSweep_AgeReachesNamesThatNobodyUses(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	for _, command := range [][]string{
		{"RPUSH", "frontend:a.example", "a", "10.0.0.1"},
		{"RPUSH", "frontend:*.pool.example", "pool", "10.0.0.1"},
	} {
		s.Do(command...)
	}
	conn := s.Connect()
	defer conn.Close()
	for _, command := range [][]string{
		{"SELECT", "1"},
		{"RPUSH", "frontend:a.example", "a", "10.0.0.2"},
		{"RPUSH", "frontend:*.pool.example", "pool", "10.0.0.2"},
	} {
		if _, err := conn.Do(command...); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, Options{Driver: []string{s.URL()}, MaxAge: 300 * time.Millisecond})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	awaitAnswer(t, c, "x.pool.example", "10.0.0.1")
	s.Do("SWAPDB", "0", "1") // announces nothing
	for _, name := range []string{"a.example", "x.pool.example"} {
		eventually(t, name+" is read again", func() bool { return inMemory(c, name, "10.0.0.2") })
	}
	if bound := c.sweep.ageBound(); bound < 0.33 || bound > 0.5 {
		t.Errorf("the bound is %v s, want 0.33 and a pass of 0.1", bound)
	}
}

func TestSweep_LookupsDoNotWaitForIt(t *testing.T) {
	t.Parallel()
	const n = 3000
	s := redistest.Start(t)
	loadLists(s, n, "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	for i := range n {
		awaitAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	s.Stop() // reads stand still
	c.flushed()
	eventually(t, "the sweep has begun", func() bool { return len(c.slots) > 0 })
	for i := range 50 {
		wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
	}
	if n := len(c.slots); n > sweepFlights+50 {
		t.Errorf("%d reads are in flight, want at most half of %d and those of the lookups", n, maxFlights)
	}
	s.Continue()
}

func TestWalk_VisitsWhatStays(t *testing.T) {
	t.Parallel()
	c := offline(t, "")
	c.up()
	for i := range 1000 {
		settleList(c, fmt.Sprintf("h%d.example", i), "id", "10.0.0.1")
	}
	seen := map[string]bool{}
	walk := walk{c: c, kind: exactSpace}
	for batch := walk.next(7); batch != nil; batch = walk.next(7) {
		for _, e := range batch {
			seen[e.name()] = true
		}
		// Every third name goes, from the front, the back and between.
		c.mu.Lock()
		if e := c.table.findString(fmt.Sprintf("h%d.example", 3*(len(seen)/7%333))); e != nil {
			c.evict(e)
		}
		c.mu.Unlock()
	}
	for i := range 1000 {
		name := fmt.Sprintf("h%d.example", i)
		if i%3 != 0 && !seen[name] {
			t.Errorf("%s was not visited", name)
		}
	}
}

// TestSweep_OfFlushesIsRare is about stores that are polled: each poll is a flush.
func TestSweep_OfFlushesIsRare(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	for range 5 {
		c.flushed()
		since := c.sweep.since.Load()
		eventually(t, "the sweep is over", func() bool { return c.table.findString("a.example").value.Load().epoch >= since })
	}
	// It is counted after it has been read.
	eventually(t, "the sweep is counted", func() bool { return c.m.sweptOutage.Get() > 0 })
	if n := c.m.sweptOutage.Get(); n != 1 {
		t.Errorf("one name was swept %d times", n)
	}
}
