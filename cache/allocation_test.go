//go:build !race

package cache

import (
	"errors"
	"fmt"
	"testing"
)

// The budget of the request path: nothing.
func TestAllocations(t *testing.T) {
	r := newFileRoutes(t)
	r.lists["frontend:a.example"] = []string{"a", "10.0.0.1", "10.0.0.2"}
	r.set("*.pool.example", "pool", "10.0.0.3")
	c := start(t, Options{Driver: []string{r.driver()}})
	marked := mustLookup(t, c, "a.example")
	c.MarkDead(&marked, 1)
	for _, host := range []string{"a.example", "x.pool.example"} {
		wantAllocs(t, "hit of "+host, func() error {
			route, err := c.Lookup([]byte(host), testClient)
			if err == nil && !route.Alive(0) {
				return errors.New("backend 0 is dead")
			}
			return err
		})
	}
	wantAnswer(t, c, "no.example", "unknown")
	name := []byte("no.example")
	wantAllocs(t, "negative hit", func() error {
		if _, err := c.Lookup(name, testClient); err != ErrUnknownHost {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	raw, buf := []byte("WWW.Example.COM:8080"), make([]byte, 0, 256)
	wantAllocs(t, "AppendHost", func() error {
		_, err := AppendHost(buf, raw)
		return err
	})
}

// wantAllocs checks that f allocates nothing, by the best of a few runs: the background may
// allocate in between.
func wantAllocs(t *testing.T, what string, f func() error) {
	t.Helper()
	best := 1e9
	for range 5 {
		best = min(best, testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}))
	}
	if best != 0 {
		t.Errorf("%s: %.0f allocations, want none", what, best)
	}
}
