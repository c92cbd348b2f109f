package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"sluice/internal/redistest"
)

// BenchmarkLookup measures hits over tables of several sizes, in uniform order, and misses through
// a real store. The twin of a hit is a plain map without any of the guarantees.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000, 1_000_000} {
		if n == 1_000_000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprintf("hit/frontends=%d", n), func(b *testing.B) {
			c, hosts := filled(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(len(hosts))
				for pb.Next() {
					if _, err := c.Lookup(hosts[i], testClient); err != nil {
						b.Error(err)
						return
					}
					if i++; i == len(hosts) {
						i = 0
					}
				}
			})
		})
		b.Run(fmt.Sprintf("map/frontends=%d", n), func(b *testing.B) {
			_, hosts := filled(b, n)
			m := map[string]*Frontend{}
			for _, h := range hosts {
				m[string(h)] = &Frontend{Key: string(h)}
			}
			i := 0
			for b.Loop() {
				if m[string(hosts[i])] == nil {
					b.Fatal("not found")
				}
				if i++; i == len(hosts) {
					i = 0
				}
			}
		})
	}
	b.Run("derived", func(b *testing.B) {
		c, _ := filled(b, 1)
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

// filled returns a cache that knows n exact hosts and one wildcard, and the hosts in random order.
func filled(b *testing.B, n int) (*Cache, [][]byte) {
	b.Helper()
	r := newFileRoutes(b)
	hosts := make([][]byte, n)
	for i := range hosts {
		host := fmt.Sprintf("host-%d.customers.example.com", i)
		hosts[i] = []byte(host)
		r.lists["frontend:"+host] = []string{"id", fmt.Sprintf("http://10.%d.%d.%d:8080", i>>16, i>>8&255, i&255)}
	}
	r.set("*.pool.example", "pool", "http://10.0.0.1:80")
	c := start(b, Options{Driver: []string{r.driver()}})
	for _, h := range hosts {
		if _, err := c.Lookup(h, testClient); err != nil {
			b.Fatal(err)
		}
	}
	rand.Shuffle(n, func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	return c, hosts
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
