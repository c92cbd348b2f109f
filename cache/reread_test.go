package cache

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/redistest"
)

// A host that changed, was not asked for since, and is then written again in two steps: requests between
// the steps get the list from before them.
func TestReread_HostThatNobodyAskedForHasItsGrace(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	s.Do("HSET", "route:a.example", "hsts", "10")
	c := start(t, Options{Driver: []string{s.URL()}, TornWriteGrace: 2 * time.Second})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	wantPolicy(t, c, "a.example", "hsts max-age=10")
	time.Sleep(5 * minAgePass) // The sweep for aged names has passed, and comes again in a minute.
	s.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	s.Do("HSET", "route:a.example", "hsts", "20")
	entry := c.table.findString("a.example")
	fresh := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		v, h := entry.value.Load(), c.policies.present["a.example"]
		return v.epoch != 0 && len(v.frontend.Backends) == 2 && h.epoch != 0 && h.content.HSTS == "max-age=20"
	}
	eventually(t, "the change is read although nobody asks", fresh)
	time.Sleep(2 * time.Second) // as long as the grace of the first change
	s.Do("DEL", "frontend:a.example")
	s.Do("DEL", "route:a.example")
	eventually(t, "the second change is known", func() bool { return entry.value.Load().epoch == 0 })
	wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	wantPolicy(t, c, "a.example", "hsts max-age=20")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.3")
	s.Do("HSET", "route:a.example", "hsts", "30")
	awaitAnswer(t, c, "a.example", "10.0.0.3")
	awaitPolicy(t, c, "a.example", "hsts max-age=30")
}

// Many changes at once become no more reads than there is room and time for.
func TestReread_BurstIsBounded(t *testing.T) {
	t.Parallel()
	const names = maxRereads + 2000
	c := offline(t, "")
	c.up()
	for i := range names {
		settleList(c, fmt.Sprintf("h%d.example", i), "h", "10.0.0.1")
	}
	for range 2 {
		for i := range names {
			c.listChanged(fmt.Sprintf("h%d.example", i))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.rereads.queue); n != maxRereads {
		t.Errorf("%d names wait, want %d", n, maxRereads)
	}
	if n := c.m.rereadsDropped.Get(); n != 2*2000 {
		t.Errorf("%d names were counted as left out, want %d", n, 2*2000)
	}
	before := c.rereads.queue[0].due - 1
	if batch := c.rereads.take(before); len(batch) != 0 {
		t.Errorf("%d names are due at once", len(batch))
	}
	c.rereads.queue[0].due = 0
	if batch := c.rereads.take(before); len(batch) != 1 {
		t.Errorf("%d names are due, want one", len(batch))
	}
}
