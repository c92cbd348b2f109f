package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/internal/redistest"
)

// BenchmarkLookup measures hits over tables of several sizes, in random order, and misses through
// a real store. The twin of a hit is a plain map without any of the guarantees.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000, 1_000_000} {
		fill := sync.OnceValue(func() *Cache { return filled(b, n) })
		b.Run(fmt.Sprintf("hit/frontends=%d", n), func(b *testing.B) {
			c := fill()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var buf [64]byte
				for i := rand.Uint32(); pb.Next(); i = i*1664525 + 1013904223 {
					if _, err := c.Lookup(hostName(buf[:0], int(i>>4)%n), testClient); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
		b.Run(fmt.Sprintf("map/frontends=%d", n), func(b *testing.B) { benchmarkMap(b, n) })
	}
	b.Run("derived", func(b *testing.B) {
		c := filled(b, 1)
		name := []byte("x.pool.example")
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Lookup(name, testClient); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("miss", benchmarkMiss)
}

// benchmarkMap is the twin of a hit.
func benchmarkMap(b *testing.B, n int) {
	m := make(map[string]*Frontend, n)
	for i := range n {
		host := string(hostName(nil, i))
		m[host] = &Frontend{Key: host}
	}
	var buf [64]byte
	i := rand.Uint32()
	for b.Loop() {
		if f := m[string(hostName(buf[:0], int(i>>4)%n))]; f == nil || f.uniform {
			b.Fatal("not found")
		}
		i = i*1664525 + 1013904223
	}
}

// filled returns a cache that knows n exact hosts.
func filled(b *testing.B, n int) *Cache {
	b.Helper()
	r := newFileRoutes(b)
	for i := range n {
		r.lists["frontend:"+string(hostName(nil, i))] = []string{"id", fmt.Sprintf("http://10.%d.%d.%d:8080", i>>16, i>>8&255, i&255)}
	}
	r.set("*.pool.example", "pool", "http://10.0.0.1:80")
	c := start(b, Options{Driver: []string{r.driver()}})
	for _, i := range rand.Perm(n) {
		mustKnow(b, c, hostName(nil, i))
	}
	runtime.GC()
	return c
}

// hostName appends the i-th host. It is made from the number, because a request's host is in the
// processor's cache, and a slice of a million names is not.
func hostName(dst []byte, i int) []byte {
	return append(strconv.AppendInt(append(dst, "host-"...), int64(i), 10), ".customers.example.com"...)
}

// mustKnow looks host up, again if a busy machine made it too late.
func mustKnow(b *testing.B, c *Cache, host []byte) {
	b.Helper()
	var err error
	for range 5 {
		if _, err = c.Lookup(host, testClient); err == nil {
			return
		}
	}
	b.Fatal(err)
}

// benchmarkMiss looks up names that were never asked for, each with a list of its own.
func benchmarkMiss(b *testing.B) {
	s := redistest.Start(b)
	n := max(b.N, 1)
	s.Load(func(yield func(args ...string)) {
		for i := range n {
			yield("RPUSH", fmt.Sprintf("frontend:h%d.example", i), "id", "http://10.0.0.1:80")
		}
	})
	c := start(b, Options{Driver: []string{s.URL()}})
	var next atomic.Int64
	client := netip.MustParseAddr("192.0.2.1")
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			name := fmt.Appendf(nil, "h%d.example", next.Add(1)-1)
			if _, err := c.Lookup(name, client); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkAppendHost(b *testing.B) {
	raw, buf := []byte("WWW.Customers.Example.com:8080"), make([]byte, 0, 256)
	for b.Loop() {
		if _, err := AppendHost(buf, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseFrontend(b *testing.B) {
	list := []string{"id", "http://10.0.0.1:8080", "http://10.0.0.2:8080#weight=2", "https://app.example"}
	b.ReportAllocs()
	for b.Loop() {
		parseFrontend("a.example", list, noOwn, func(string, error) {})
	}
}
