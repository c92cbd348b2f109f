package cache

import (
	"slices"
	"testing"
	"time"

	"sluice/internal/certtest"
	"sluice/internal/redistest"
)

// flushBench is a store with a host that has a certificate and policies.
type flushBench struct {
	*redisRoutes
	pair certtest.Pair
}

func newFlushBench(t *testing.T) *flushBench {
	b := &flushBench{&redisRoutes{redistest.Start(t)}, certtest.New(t).Issue(t, "*.b.example", "shop.b.example")}
	b.load()
	return b
}

func (b *flushBench) load() {
	b.setHash("tls:shop.b.example", fieldsOf(b.pair))
	b.setHash("tls:*.b.example", fieldsOf(b.pair))
	b.setHash("route:shop.b.example", map[string]string{"redirectHttps": "true"})
	b.setHash("route:*.b.example", map[string]string{"hsts": "7"})
	b.set("shop.b.example", "shop", "10.0.0.1")
	b.set("*.b.example", "wide", "10.0.0.2")
}

// missing returns what does not count of what load wrote.
func (b *flushBench) missing(c *Cache) (parts []string) {
	for host, want := range map[string][2]string{
		"shop.b.example": {"10.0.0.1", "redirect 308"}, "www.b.example": {"10.0.0.2", "hsts max-age=7"},
	} {
		if got := answer(c, host); got != want[0] {
			parts = append(parts, host+" has the route "+got)
		}
		if got := policyText(c, host); got != want[1] {
			parts = append(parts, host+" has the policy "+got)
		}
		if got := serialOf(c, host); got != b.pair.Serial {
			parts = append(parts, host+" has the certificate "+got)
		}
	}
	slices.Sort(parts)
	return parts
}

// FLUSHALL, and everything written anew a moment later, as a tool does that loads a dump.
func TestFlush_HashesHaveTheGraceOfLists(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]time.Duration{
		"names are known again at once": 2 * indexPause, "names are not known for a while": 0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const grace = 3 * time.Second
			b := newFlushBench(t)
			c := start(t, Options{Driver: []string{b.driver()}, TornWriteGrace: grace})
			eventually(t, "the names are known", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.policies.index.complete(c.epoch.Load()) && c.certificates.index.complete(c.epoch.Load())
			})
			eventually(t, "all of it counts", func() bool { return b.missing(c) == nil })
			time.Sleep(pause)
			begin := time.Now()
			b.Do("FLUSHALL")
			wantAll := func(until time.Duration) {
				t.Helper()
				for ; time.Since(begin) < until; time.Sleep(10 * time.Millisecond) {
					if missing := b.missing(c); missing != nil {
						t.Fatalf("%v after the flush: %q", time.Since(begin), missing)
					}
				}
			}
			wantAll(grace / 2)
			b.load()
			wantAll(2 * grace)
		})
	}
}

// What nobody loads again ends with the grace, and what nobody asks for is forgotten as well.
func TestFlush_HashesEndWithTheGrace(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	b := newFlushBench(t)
	c := start(t, Options{Driver: []string{b.driver()}, TornWriteGrace: grace})
	eventually(t, "all of it counts", func() bool { return b.missing(c) == nil })
	time.Sleep(2 * indexPause)
	begin := time.Now()
	b.Do("FLUSHALL")
	eventually(t, "the host is unknown", func() bool { return answer(c, "shop.b.example") == "unknown" })
	wantSerial(t, c, "shop.b.example", "none")
	if took := time.Since(begin); took < grace || took > grace+2*time.Second {
		t.Errorf("it took %v", took)
	}
	eventually(t, "memory holds nothing of it", func() bool { return c.certificates.count()+c.policies.count() == 0 })
}

// A certificate that was removed leaves memory, and so the snapshot, though nobody asks for it again.
func TestFlush_RemovedHashIsForgotten(t *testing.T) {
	t.Parallel()
	b := newFlushBench(t)
	c := start(t, Options{Driver: []string{b.driver()}, MaxAge: time.Second, SnapshotKeys: true})
	eventually(t, "all of it counts", func() bool { return b.missing(c) == nil })
	changes := c.changes.Load()
	b.Do("DEL", "tls:shop.b.example")
	eventually(t, "it is forgotten", func() bool { return c.certificates.count() == 1 })
	if c.changes.Load() == changes {
		t.Error("no snapshot is written without it")
	}
}
