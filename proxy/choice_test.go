package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sluice/cache"
)

// startRoutes runs a cache over a file of routes until the test ends.
func startRoutes(t testing.TB, routes map[string][]string) *cache.Cache {
	t.Helper()
	content, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cache.New(cache.Options{Driver: []string{"file:" + file}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

// lookUp returns the route of a host.
func lookUp(t testing.TB, c *cache.Cache, host string) cache.Route {
	t.Helper()
	route, err := c.Lookup([]byte(host), netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatalf("look up %s: %v", host, err)
	}
	return route
}

// routeTo returns a route to the given backends, all alive.
func routeTo(t testing.TB, backends ...string) cache.Route {
	t.Helper()
	return lookUp(t, startRoutes(t, map[string][]string{"frontend:h": append([]string{"id"}, backends...)}), "h")
}

// newChooser returns a chooser whose random numbers are the same in every run, with no load anywhere.
func newChooser(balance Balance, route *cache.Route) *chooser {
	var turn uint64
	random := rand.New(rand.NewPCG(1, 2))
	return &chooser{
		balance: balance, random: random.IntN, route: route,
		turn:    func() uint64 { turn++; return turn - 1 },
		load:    func(*cache.Backend) int64 { return 0 },
		allowed: func(*cache.Backend) bool { return true },
	}
}

// counts returns how often each backend is chosen in n choices.
func (c *chooser) counts(n int) []int {
	got := make([]int, len(c.route.Frontend().Backends))
	for range n {
		got[c.choose()]++
	}
	return got
}

// checkShares checks by a chi-square test that backends were chosen in proportion to their weights. The bound is passed by
// chance once in some ten thousand seeds, and the seed is fixed.
func checkShares(t *testing.T, got []int, weights ...float64) {
	t.Helper()
	var n, sum float64
	for i := range got {
		n, sum = n+float64(got[i]), sum+weights[i]
	}
	chi, freedom := 0.0, -1.0
	for i, w := range weights {
		if w == 0 {
			if got[i] != 0 {
				t.Errorf("backend %d was chosen %d times, must never be", i, got[i])
			}
			continue
		}
		want := n * w / sum
		chi += (float64(got[i]) - want) * (float64(got[i]) - want) / want
		freedom++
	}
	if limit := freedom + 4*math.Sqrt(2*freedom) + 8; chi > limit {
		t.Errorf("got %v for weights %v: chi square %.1f with %.0f degrees of freedom, limit %.1f", got, weights, chi, freedom, limit)
	}
}

func TestChoose_RandomShares(t *testing.T) {
	t.Parallel()
	f := func(name string, elements []string, weights ...float64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			route := routeTo(t, elements...)
			for _, balance := range []Balance{BalanceRandom, BalanceLeastConn} { // Without load all are the least loaded.
				checkShares(t, newChooser(balance, &route).counts(100_000), weights...)
			}
		})
	}
	f("equal", []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, 1, 1, 1)
	f("by repetition", []string{"10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1"}, 1, 1, 1, 1)
	f("by weight", []string{"10.0.0.1#weight=5", "10.0.0.2", "10.0.0.3#weight=2"}, 5, 1, 2)
	f("both", []string{"10.0.0.1#weight=3", "10.0.0.2", "10.0.0.1#weight=3"}, 3, 1, 3)
	f("unusable elements", []string{"ftp://10.0.0.1", "10.0.0.2", "http://", "10.0.0.4#weight=2"}, 0, 1, 0, 2)
}

// Among many backends one is drawn until one fits. The shares are those of the weights all the same, also
// where most draws are in vain, and nothing dead, tried or unusable is chosen.
func TestChoose_AmongMany(t *testing.T) {
	t.Parallel()
	elements := []string{"10.0.1.1#weight=40", "ftp://10.0.1.2"}
	weights := []float64{40, 0}
	for i := range 18 {
		weight := 1 + i%3
		elements = append(elements, fmt.Sprintf("10.0.0.%d#weight=%d", i+1, weight))
		weights = append(weights, float64(weight))
	}
	c := startRoutes(t, map[string][]string{"frontend:h": append([]string{"id"}, elements...)})
	route := lookUp(t, c, "h")
	const dead, tried = 5, 7
	c.MarkDead(&route, dead)
	route = lookUp(t, c, "h")
	weights[dead], weights[tried] = 0, 0
	ch := newChooser(BalanceRandom, &route)
	untried := func(b *cache.Backend) bool { return b != &route.Frontend().Backends[tried] }
	ch.allowed = untried
	checkShares(t, ch.counts(100_000), weights...)

	// Of two the less loaded: the others are chosen only when they are drawn twice.
	ch = newChooser(BalanceP2C, &route)
	ch.allowed = untried
	ch.load = func(b *cache.Backend) int64 {
		if b == &route.Frontend().Backends[0] {
			return 0
		}
		return 1
	}
	got, sum := ch.counts(100_000), 0.0
	for _, w := range weights {
		sum += w
	}
	rest := 1 - weights[0]/sum
	if share, want := float64(got[0])/100_000, 1-rest*rest; math.Abs(share-want) > 0.01 {
		t.Errorf("the idle backend has %.3f of the requests, want %.3f", share, want)
	}

	for i := range elements {
		c.MarkDead(&route, i)
	}
	route = lookUp(t, c, "h")
	if got := newChooser(BalanceRandom, &route).choose(); got != noBackend {
		t.Errorf("chose %d, all are dead", got)
	}
}

func TestChoose_NeverDeadOrTried(t *testing.T) {
	t.Parallel()
	c := startRoutes(t, map[string][]string{
		"frontend:h": {"id", "10.0.0.1", "10.0.0.2#weight=9", "10.0.0.3", "10.0.0.4", "10.0.0.5"},
	})
	route := lookUp(t, c, "h")
	c.MarkDead(&route, 1)
	route = lookUp(t, c, "h")
	if route.Alive(1) {
		t.Fatal("backend 1 is alive after its mark")
	}
	tried := &route.Frontend().Backends[3]
	for _, balance := range []Balance{BalanceRandom, BalanceRoundRobin, BalanceLeastConn, BalanceP2C} {
		ch := newChooser(balance, &route)
		ch.allowed = func(b *cache.Backend) bool { return b.Key != tried.Key }
		got := ch.counts(30_000)
		if got[1] != 0 || got[3] != 0 {
			t.Errorf("%s: chosen %v, 1 is dead and 3 was tried", balance, got)
		}
		if balance != BalanceP2C {
			checkShares(t, got, 1, 0, 1, 0, 1)
		}
	}
}

func TestChoose_Nothing(t *testing.T) {
	t.Parallel()
	c := startRoutes(t, map[string][]string{
		"frontend:dead": {"id", "10.0.0.1", "10.0.0.2"}, "frontend:bad": {"id", "ftp://a", "http://"}, "frontend:one": {"id", "10.0.0.1"},
	})
	dead := lookUp(t, c, "dead")
	c.MarkDead(&dead, 0)
	c.MarkDead(&dead, 1)
	dead, bad, one := lookUp(t, c, "dead"), lookUp(t, c, "bad"), lookUp(t, c, "one")
	for _, balance := range []Balance{BalanceRandom, BalanceRoundRobin, BalanceLeastConn, BalanceP2C} {
		for name, route := range map[string]*cache.Route{"all dead": &dead, "all unusable": &bad} {
			if got := newChooser(balance, route).choose(); got != noBackend {
				t.Errorf("%s, %s: got %d", balance, name, got)
			}
		}
		if got := newChooser(balance, &one).choose(); got != 0 {
			t.Errorf("%s, a single backend: got %d", balance, got)
		}
	}
}

func TestChoose_RoundRobin(t *testing.T) {
	t.Parallel()
	f := func(elements []string, want ...int) {
		t.Helper()
		route := routeTo(t, elements...)
		c := newChooser(BalanceRoundRobin, &route)
		for i := range 3 * len(want) {
			if got := c.choose(); got != want[i%len(want)] {
				t.Errorf("%v: turn %d chose %d, want %d", elements, i, got, want[i%len(want)])
			}
		}
	}
	f([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, 0, 1, 2)
	f([]string{"10.0.0.1", "10.0.0.2", "10.0.0.1"}, 0, 1, 2)
	f([]string{"10.0.0.1#weight=2", "10.0.0.2", "ftp://x", "10.0.0.3#weight=3"}, 0, 0, 1, 3, 3, 3)
	// Among many each that cannot be used loses its turn.
	many := make([]string, 2*manyBackends)
	var want []int
	for i := range many {
		if many[i] = fmt.Sprintf("10.0.0.%d", i+1); i%4 == 2 {
			many[i] = "ftp://x"
		} else {
			want = append(want, i)
		}
	}
	f(many, want...)
}

func TestChoose_LeastConn(t *testing.T) {
	t.Parallel()
	f := func(name string, elements []string, loads []int64, best ...int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			route := routeTo(t, elements...)
			c := newChooser(BalanceLeastConn, &route)
			c.load = func(b *cache.Backend) int64 {
				return loads[slices.Index(elements, b.URL)]
			}
			got := c.counts(2000)
			for i, n := range got {
				if (n > 0) != slices.Contains(best, i) {
					t.Errorf("chosen %v, want only and all of %v", got, best)
				}
			}
		})
	}
	three := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	f("one best", three, []int64{5, 4, 6}, 1)
	f("equals take turns", three, []int64{4, 4, 6}, 0, 1)
	f("all equal", three, []int64{7, 7, 7}, 0, 1, 2)
	f("an idle one", three, []int64{1, 1000, 0}, 2)
	weighted := []string{"10.0.0.1#weight=3", "10.0.0.2", "10.0.0.3"}
	f("load counts by weight", weighted, []int64{5, 2, 3}, 0)
	f("a heavy one that is full", weighted, []int64{9, 2, 3}, 1)
}

// Two choices at random: the one that is loaded most is chosen only when both fall on it.
func TestChoose_P2C(t *testing.T) {
	t.Parallel()
	elements := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3#weight=2"}
	route := routeTo(t, elements...)
	c := newChooser(BalanceP2C, &route)
	c.load = func(b *cache.Backend) int64 { return []int64{10, 1000, 20}[slices.Index(elements, b.URL)] }
	// In sixteenths: pairs are (0,0) 1, (0,2) 4, (2,2) 4, (0,1) 2, (1,2) 4, (1,1) 1. Of 0 and 2, equal for their weights,
	// the first one drawn is kept.
	checkShares(t, c.counts(160_000), 1+2+2, 1, 4+2+4)
}

// newPicker returns an exchange that can pick among the backends of a route.
func newPicker(route cache.Route) *exchange {
	cfg := DefaultConfig()
	srv := &Server{}
	srv.pools.m = map[string]*pool{}
	return &exchange{srv: srv, cfg: &cfg, route: route, routed: true}
}

func TestPick_NeverTheSameTwiceWhileAnotherLives(t *testing.T) {
	t.Parallel()
	route := routeTo(t, "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3")
	for range 200 {
		x := newPicker(route)
		var keys []string
		for {
			if e := x.pick(); e.Kind != KindNone {
				if e.Kind != KindNoBackend {
					t.Fatalf("got %v", e)
				}
				break
			}
			if x.backend != &route.Frontend().Backends[x.index] {
				t.Fatalf("backend %d is %+v", x.index, x.backend)
			}
			keys = append(keys, x.backend.Key)
			x.tried = append(x.tried, x.backend.Key)
		}
		slices.Sort(keys)
		if len(keys) != 3 || len(slices.Compact(keys)) != 3 {
			t.Fatalf("picked %v, want each of three addresses once", keys)
		}
	}
}

// The only backend is tried twice, not more.
func TestPick_TheOnlyOneOnceMore(t *testing.T) {
	t.Parallel()
	for name, elements := range map[string][]string{
		"alone": {"10.0.0.1"}, "twice in the list": {"10.0.0.1", "10.0.0.1"}, "beside one that is unusable": {"ftp://x", "10.0.0.1"},
	} {
		x := newPicker(routeTo(t, elements...))
		for i := range 3 {
			e := x.pick()
			if (e.Kind == KindNone) != (i < 2) {
				t.Errorf("%s: attempt %d: got %v", name, i, e)
			}
			if e.Kind == KindNone {
				x.tried = append(x.tried, x.backend.Key)
			}
		}
	}
}

func TestPick_SaysWhyNothing(t *testing.T) {
	t.Parallel()
	c := startRoutes(t, map[string][]string{
		"frontend:empty": {"id"}, "frontend:bad": {"id", "ftp://a", "http://"}, "frontend:mixed": {"id", "ftp://a", "10.0.0.1", "10.0.0.2"},
	})
	mixed := lookUp(t, c, "mixed")
	c.MarkDead(&mixed, 1)
	c.MarkDead(&mixed, 2)
	for host, want := range map[string]Kind{"empty": KindNoBackend, "bad": KindBackendInvalid, "mixed": KindNoBackend} {
		if e := newPicker(lookUp(t, c, host)).pick(); e.Kind != want {
			t.Errorf("%s: got %v, want %v", host, e.Kind, want)
		}
	}
}

// Frontends rotate independently of each other, and all connections of the process share a rotation.
func TestPick_RoundRobinPerFrontend(t *testing.T) {
	t.Parallel()
	c := startRoutes(t, map[string][]string{
		"frontend:a": {"id", "10.0.0.1", "10.0.0.2"}, "frontend:b": {"id", "10.0.1.1", "10.0.1.2", "10.0.1.3"},
	})
	srv := &Server{}
	var got [2][]int
	for range 12 {
		for i, host := range []string{"a", "b"} {
			x := newPicker(lookUp(t, c, host))
			x.cfg.Balance, x.srv = BalanceRoundRobin, srv
			if e := x.pick(); e.Kind != KindNone {
				t.Fatal(e)
			}
			got[i] = append(got[i], x.index)
		}
	}
	if slotOf("a") == slotOf("b") {
		t.Skip("the two keys share a slot by this process's seed")
	}
	for i, n := range []int{2, 3} {
		for j := range got[i][n:] {
			if got[i][j] != got[i][j+n] || j > 0 && got[i][j] == got[i][j-1] {
				t.Errorf("frontend %d was served by %v, want a rotation of %d", i, got[i], n)
				break
			}
		}
	}
}

// A mark takes effect with the next lookup: a retry must not see the backend again.
func TestPick_AfterAMark(t *testing.T) {
	t.Parallel()
	c := startRoutes(t, map[string][]string{"frontend:h": {"id", "10.0.0.1", "10.0.0.2"}})
	route := lookUp(t, c, "h")
	c.MarkDead(&route, 0)
	for range 100 {
		x := newPicker(lookUp(t, c, "h"))
		if e := x.pick(); e.Kind != KindNone || x.index != 1 {
			t.Fatalf("picked %d, %v", x.index, e)
		}
	}
}
