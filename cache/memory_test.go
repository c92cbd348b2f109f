//go:build !race

package cache

import (
	"fmt"
	"runtime"
	"testing"
)

// Budgets per name, everything that the cache holds for it included. A list of two backends takes
// some 250 bytes by itself.
const (
	exactBudgetBytes   = 600
	derivedBudgetBytes = 120
)

// TestMemoryPerName is not parallel: it measures the heap.
func TestMemoryPerName(t *testing.T) {
	const n = 20_000
	c, err := New(Options{Driver: []string{"file:unused.json"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.up()
	fill := func(format string, resolve func(name string)) float64 {
		before := heapBytes()
		for i := range n {
			resolve(fmt.Sprintf(format, i))
		}
		return float64(heapBytes()-before) / n
	}
	settle := func(name string, list ...string) (*entry, *value) {
		c.mu.Lock()
		defer c.mu.Unlock()
		r := reading{list: list}
		return c.settle(&flight[settled]{name: name, epoch: c.epoch.Load()}, &r, c.parseReading(name, &r))
	}
	pool, _ := settle("*.pool.example", "pool", "http://10.0.0.1:80")
	exact := fill("customer-%d.exact.example", func(name string) {
		settle(name, name, "http://10.0.0.1:8080", "http://10.0.0.2:8080")
	})
	derived := fill("customer-%d.pool.example", func(name string) {
		e, v := settle(name)
		c.bind(e, v, pool, c.gen.Load(), nil, never)
	})
	t.Logf("bytes per name: exact %.0f, derived %.0f", exact, derived)
	if exact > exactBudgetBytes || derived > derivedBudgetBytes {
		t.Errorf("bytes per name: exact %.0f of %d, derived %.0f of %d",
			exact, exactBudgetBytes, derived, derivedBudgetBytes)
	}
	runtime.KeepAlive(c)
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
