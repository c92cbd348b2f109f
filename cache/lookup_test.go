package cache

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sluice/internal/logtest"
)

func TestLookup_FollowsChanges(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "http://10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		wantAnswer(t, c, "a.example", "http://10.0.0.1:80")
		wantAnswer(t, c, "b.example", "unknown")
		r.set("a.example", "a", "http://10.0.0.2:80", "10.0.0.3")
		awaitAnswer(t, c, "a.example", "http://10.0.0.2:80 10.0.0.3")
		r.set("b.example", "b", "10.0.0.4:80")
		awaitAnswer(t, c, "b.example", "10.0.0.4:80")
		r.del("a.example")
		awaitAnswer(t, c, "a.example", "unknown")
	})
}

func TestLookup_WildcardChangeReachesEveryHost(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.app.example", "pool", "10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		hosts := []string{"a.app.example", "b.app.example", "x.y.app.example"}
		wantAll := func(want string) {
			t.Helper()
			for _, h := range hosts {
				awaitAnswer(t, c, h, want)
			}
		}
		wantAll("10.0.0.1:80")
		r.set("*.app.example", "pool", "10.0.0.2:80")
		wantAll("10.0.0.2:80")
		r.set("*", "all", "10.0.0.9:80")
		wantAll("10.0.0.2:80")
		r.del("*.app.example")
		wantAll("10.0.0.9:80")
		r.set("*.example", "wide", "10.0.0.8:80")
		wantAll("10.0.0.8:80")
		r.set("b.app.example", "own", "10.0.0.7:80")
		awaitAnswer(t, c, "b.app.example", "10.0.0.7:80")
		wantAnswer(t, c, "a.app.example", "10.0.0.8:80")
		r.del("*")
		r.del("*.example")
		awaitAnswer(t, c, "a.app.example", "unknown")
		wantAnswer(t, c, "b.app.example", "10.0.0.7:80")
	})
}

// TestLookup_ExactNameShadowsItsWildcardAndGivesWay creates and deletes the list of a name that its
// wildcard answers for, again and again, and looks at how soon it counts.
func TestLookup_ExactNameShadowsItsWildcardAndGivesWay(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.app.example", "pool", "10.0.0.1:80")
		const grace = 100 * time.Millisecond
		c := start(t, Options{Driver: []string{r.driver()}, TornWriteGrace: grace})
		within := func(bound time.Duration, want string) {
			t.Helper()
			begin := time.Now()
			awaitAnswer(t, c, "big.app.example", want)
			if took := time.Since(begin); took > bound {
				t.Errorf("%s answers after %v, want at most %v", want, took, bound)
			}
			wantAnswer(t, c, "small.app.example", "10.0.0.1:80")
		}
		within(time.Second, "10.0.0.1:80")
		for range 5 {
			r.set("big.app.example", "big", "10.0.0.2:80")
			within(time.Second, "10.0.0.2:80")
			r.del("big.app.example")
			within(time.Second+grace, "10.0.0.1:80")
		}
	})
}

func TestLookup_UnchangedListKeepsItsFrontend(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		before := mustLookup(t, c, "a.example")
		c.flushed()
		after := mustLookup(t, c, "a.example")
		if before.Frontend() != after.Frontend() {
			t.Error("the same list became another Frontend")
		}
	})
}

func TestLookup_AddressHasOnlyTheCatchAll(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*", "all", "10.0.0.9:80")
		r.set("[::1]", "six", "10.0.0.6:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		wantAnswer(t, c, "[::1]", "10.0.0.6:80")
		wantAnswer(t, c, "[::ffff:192.0.2.1]", "10.0.0.9:80")
	})
}

func TestLookup_SpacesEvictOnlyTheirOwnKind(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		for i := range 20 {
			r.set(fmt.Sprintf("h%d.example", i), "id", "10.0.0.1:80")
		}
		r.set("*.pool.example", "id", "10.0.0.2:80")
		c := start(t, Options{
			Driver: []string{r.driver()}, MaxHosts: 30, MaxDerivedHosts: 50, MaxUnknownHosts: 40, MaxMissRate: -1,
		})
		for i := range 20 {
			wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1:80")
		}
		for i := range 300 {
			wantAnswer(t, c, fmt.Sprintf("r%d.pool.example", i), "10.0.0.2:80")
			wantAnswer(t, c, fmt.Sprintf("r%d.other.test", i), "unknown")
		}
		c.mu.Lock()
		sizes := [...]int{len(c.spaces[0].members), len(c.spaces[1].members), len(c.spaces[2].members)}
		entries := 0
		for _, n := range c.table.counts {
			entries += n
		}
		c.mu.Unlock()
		if want := [...]int{21, 50, 40}; sizes != want || entries != 111 {
			t.Errorf("entries by space: got %v and %d in the table, want %v and 111", sizes, entries, want)
		}
	})
}

func TestLookup_EvictedWildcardStillFollowsChanges(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.pool.example", "id", "10.0.0.2:80")
		for i := range 50 {
			r.set(fmt.Sprintf("h%d.example", i), "id", "10.0.0.1:80")
		}
		c := start(t, Options{Driver: []string{r.driver()}, MaxHosts: 1})
		wantAnswer(t, c, "a.pool.example", "10.0.0.2:80")
		for i := range 50 {
			wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1:80")
		}
		wantAnswer(t, c, "a.pool.example", "10.0.0.2:80")
		for i := range 50 {
			wantAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1:80")
		}
		r.set("*.pool.example", "id", "10.0.0.3:80")
		awaitAnswer(t, c, "a.pool.example", "10.0.0.3:80")
	})
}

func TestLookup_LongListIsCut(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "id", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
		r.set("b.example", "id", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		var log logtest.Buffer
		c := start(t, Options{Driver: []string{r.driver()}, MaxBackends: 3, Log: log.Logger()})
		wantAnswer(t, c, "b.example", "10.0.0.1 10.0.0.2 10.0.0.3")
		if n := c.m.listsCut.Get(); n != 0 {
			t.Errorf("a list of exactly the limit was counted as cut %d times", n)
		}
		wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2 10.0.0.3")
		if n := c.m.listsCut.Get(); n != 1 {
			t.Errorf("lists cut: got %d, want 1", n)
		}
	})
}

func TestLookup_LimitsNamesThatComeToNothing(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.pool.example", "id", "10.0.0.2:80")
		r.set("known.example", "id", "10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}, MaxMissRate: 100})
		wantAnswer(t, c, "known.example", "10.0.0.1:80")
		answers := map[string]int{}
		// A second may end in between, so that two budgets of 50 are the most there can be.
		for i := range 160 {
			answers[answer(c, fmt.Sprintf("no%d.test", i))]++
		}
		if answers["unknown"] < 50 || answers["unknown"] > 150 || answers["limited"] == 0 {
			t.Errorf("answers: %v, want some 50 unknown and the rest limited", answers)
		}
		wantAnswer(t, c, "known.example", "10.0.0.1:80")
		if got := answer(c, "new.pool.example"); got != "limited" && got != "10.0.0.2:80" {
			t.Errorf("a new name under a wildcard: got %q", got)
		}
		r.set("fresh.example", "id", "10.0.0.3:80")
		eventually(t, "the push of the new list arrives", func() bool { return c.pushedLately("fresh.example", c.now()) })
		wantAnswer(t, c, "fresh.example", "10.0.0.3:80")
	})
}

func TestLookup_NegativeEntryIsReadAgainAfterItsTTL(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		c := start(t, Options{Driver: []string{r.driver()}, NegativeTTL: 50 * time.Millisecond})
		wantAnswer(t, c, "no.example", "unknown")
		misses := c.m.misses.Get()
		eventually(t, "the name is read again", func() bool {
			wantAnswer(t, c, "no.example", "unknown")
			return c.m.misses.Get() > misses
		})
		if c.m.negativeHits.value() == 0 {
			t.Error("no lookup was answered by the negative entry")
		}
	})
}

func TestLookup_OldEntryIsServedOnceMoreAndReadAgain(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "id", "10.0.0.1:80")
		r.set("*.pool.example", "id", "10.0.0.2:80")
		c := start(t, Options{Driver: []string{r.driver()}, MaxAge: 100 * time.Millisecond})
		wantAnswer(t, c, "a.example", "10.0.0.1:80")
		wantAnswer(t, c, "x.pool.example", "10.0.0.2:80")
		misses := c.m.misses.Get()
		eventually(t, "both lists were read again in the background", func() bool {
			wantAnswer(t, c, "a.example", "10.0.0.1:80")
			return c.m.revalidations.Get() >= 3
		})
		if got := c.m.misses.Get(); got != misses {
			t.Errorf("lookups waited for %d reads that belong in the background", got-misses)
		}
		eventually(t, "the derived host was read again, too", func() bool {
			before := c.m.revalidations.Get()
			wantAnswer(t, c, "x.pool.example", "10.0.0.2:80")
			return c.m.revalidations.Get() > before
		})
	})
}

func TestLookupExact_NoWildcards(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example:8080", "id", "10.0.0.1:80")
		r.set("*.example", "id", "10.0.0.2:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		exact := func(name string) string { return answerOf(c.LookupExact([]byte(name), testClient)) }
		for range 2 {
			if got := exact("a.example:8080"); got != "10.0.0.1:80" {
				t.Errorf("list of host and port: got %q", got)
			}
			if got := exact("b.example:8080"); got != "unknown" {
				t.Errorf("no list of host and port: got %q, want unknown", got)
			}
			// A name that is asked for in both ways keeps both answers apart.
			if got := exact("c.example"); got != "unknown" {
				t.Errorf("exact without a list: got %q, want unknown", got)
			}
			wantAnswer(t, c, "c.example", "10.0.0.2:80")
		}
	})
}

func TestNew_RefusesBadOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"scheme":         {Driver: []string{"http://127.0.0.1"}},
		"three drivers":  {Driver: []string{"redis:", "redis:", "redis:"}},
		"file with more": {Driver: []string{"file:a.json", "redis:"}},
		"negative":       {MaxHosts: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLookup_BeforeStartIsUnavailable(t *testing.T) {
	t.Parallel()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Lookup([]byte("a.example"), testClient); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
