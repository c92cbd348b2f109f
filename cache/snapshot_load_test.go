//go:build !race

package cache

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestSnapshot_LoadsAMillionInThreeSeconds loads a twentieth of a million in a twentieth of the time, with
// five times slack for a busy machine; make scale loads them all.
func TestSnapshot_LoadsAMillionInThreeSeconds(t *testing.T) {
	const routes, bound = 50_000, 5 * 3 * time.Second / 20
	path := filepath.Join(t.TempDir(), "snapshot")
	c := offline(t, path)
	c.up()
	for i := range routes {
		settleList(c, string(hostName(nil, i)), "id", "http://10.0.0.1:8080", "http://10.0.0.2:8080")
	}
	if n := c.saved.save(context.Background(), 1); n == 0 {
		t.Fatal("nothing was written")
	}
	best := time.Hour
	for range 3 {
		other := offline(t, path)
		begin := time.Now()
		other.saved.load()
		best = min(best, time.Since(begin))
		if n := other.count(exactSpace); n != routes {
			t.Fatalf("%d of %d routes came back", n, routes)
		}
	}
	t.Logf("%d routes in %v", routes, best)
	if best > bound {
		t.Errorf("%d routes took %v, want at most %v", routes, best, bound)
	}
}
