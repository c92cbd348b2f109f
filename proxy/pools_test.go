package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// A backend that nobody uses any more leaves nothing behind: neither its pool nor its connections.
func TestPools_UnusedAreDropped(t *testing.T) {
	t.Parallel()
	busy, idle := newWaiting(t, ""), backendtest.Echo(t, "idle")
	e := newEdge(t, routeList{"busy.example": {"b", busy.URL()}, "idle.example": {"i", idle.URL()}}, func(s *setup) {
		s.BackendIdleTimeout = time.Hour
	})
	e.get("idle.example")
	c := e.dial()
	c.send(request("GET", "/", "busy.example"))
	<-busy.got
	eventually(t, "the end of the first request", func() bool { return e.server.InFlight() == 1 })
	if n := e.metric("sluice_backend_pools"); n != 2 {
		t.Errorf("%v pools, want 2", n)
	}
	e.server.SweepPools(time.Second)
	if n := e.metric("sluice_backend_pools"); n != 2 || idle.OpenConns() != 1 {
		t.Errorf("a second later: %v pools and %d connections, want 2 and 1", n, idle.OpenConns())
	}
	e.server.SweepPools(2 * time.Minute)
	if n := e.metric("sluice_backend_pools"); n != 1 {
		t.Errorf("two minutes later: %v pools, want the one in use", n)
	}
	eventually(t, "the end of the unused connection", func() bool { return idle.OpenConns() == 0 })
	if a := e.get("idle.example"); a.StatusCode != 200 {
		t.Errorf("used again: %d", a.StatusCode)
	}
}

// Frontends that name the same backend share its connections, whatever else their elements say.
func TestPools_SharedByFrontends(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	routes := routeList{}
	for i := range 50 {
		routes[fmt.Sprintf("h%d.example", i)] = []string{"id", fmt.Sprintf("%s/path%d#weight=%d", b.URL(), i, i+1)}
	}
	e := newEdge(t, routes)
	c := e.dial()
	for host := range routes {
		if a := c.do("GET", "/", host); a.StatusCode != 200 {
			t.Errorf("%s: %d", host, a.StatusCode)
		}
	}
	if n, pools := b.Connects(), e.metric("sluice_backend_pools"); n != 1 || pools != 1 {
		t.Errorf("%d connections and %v pools, want one of each", n, pools)
	}
}

// Weights, by repetition or #weight, shape the share of each backend.
func TestPools_RandomByWeight(t *testing.T) {
	t.Parallel()
	heavy, light := backendtest.Echo(t, "heavy"), backendtest.Echo(t, "light")
	e := newEdge(t, routeList{
		"repeat.example": {"r", heavy.URL(), light.URL(), heavy.URL(), heavy.URL()},
		"weight.example": {"w", light.URL(), heavy.URL() + "#weight=3"},
	})
	for _, host := range []string{"repeat.example", "weight.example"} {
		c, seen := e.dial(), map[string]int{}
		for range 800 {
			seen[c.do("GET", "/", host).Header.Get("X-Backend")]++
		}
		if n := seen["heavy"]; n < 520 || n > 680 { // 600 expected; 80 are 6.5 standard deviations.
			t.Errorf("%s: shares %v, want 600 to 200", host, seen)
		}
	}
}

// Round robin takes turns; the policies by load keep away from a backend that is held up.
func TestPools_Balance(t *testing.T) {
	t.Parallel()
	held, free := newWaiting(t, ""), backendtest.Echo(t, "free")
	third := backendtest.Echo(t, "third")
	list := routeList{"two.example": {"two", held.URL(), free.URL()}, "turns.example": {"t", free.URL(), third.URL()}}
	turns := newEdge(t, list, func(s *setup) { s.Balance = "roundrobin" })
	seen := map[string]int{}
	for range 100 {
		seen[turns.get("turns.example").Header.Get("X-Backend")]++
	}
	if seen["free"] != 50 || seen["third"] != 50 {
		t.Errorf("round robin: shares %v, want 50 each", seen)
	}
	least := newEdge(t, list, func(s *setup) { s.Balance = "leastconn" })
	holdOne(t, least, held)
	for range 50 {
		least.awaitInFlight(1)
		if got := least.get("two.example").Header.Get("X-Backend"); got != "free" {
			t.Fatalf("least connections: went to %q, want the free one", got)
		}
	}
}

// holdOne sends requests until one hangs at held.
func holdOne(t *testing.T, e *edge, held *waiting) {
	t.Helper()
	for range 100 {
		c := e.dial()
		c.send(request("GET", "/", "two.example"))
		head := make(chan error, 1)
		go func() {
			_, err := c.r.Peek(1)
			head <- err
		}()
		select {
		case <-held.got:
			return
		case <-head:
		}
	}
	t.Fatal("no request came to the backend that holds")
}
