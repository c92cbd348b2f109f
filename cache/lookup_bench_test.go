package cache

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"sluice/internal/redistest"
)

// BenchmarkLookup measures hits over tables of several sizes, and misses through a real store.
// order=same asks for one host over and over; order=random for any of them; order=chained too, but
// each lookup waits for the one before, as one that stands alone in a request does, instead of
// overlapping with it; order=used reads as well what a request reads of the route. The twin of a hit is a plain map without any of the guarantees.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000, 100_000, 1_000_000} {
		fill := sync.OnceValue(func() *Cache { return filled(b, n) })
		for _, order := range []string{"same", "random", "chained", "used"} {
			b.Run(fmt.Sprintf("hit/order=%s/frontends=%d", order, n), func(b *testing.B) {
				benchmarkHits(b, fill(), order, n)
			})
		}
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

func benchmarkHits(b *testing.B, c *Cache, order string, n int) {
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		h := hits{c: c, n: n, order: order, at: rand.Uint32()}
		for pb.Next() {
			if err := h.next(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// hits asks for the hosts of a cache that knows n of them.
type hits struct {
	c     *Cache
	n     int
	order string
	at    uint32
	name  []byte
}

func (h *hits) next() error {
	if h.order != "same" || h.name == nil {
		h.name = hostName(h.name[:0], int(h.at>>4)%h.n)
	}
	r, err := h.c.Lookup(h.name, testClient)
	switch h.at = h.at*1664525 + 1013904223; h.order {
	case "chained":
		h.at ^= uint32(uint64(uintptr(unsafe.Pointer(r.frontend))) >> 63) // 0, which the processor learns from the route
	case "used":
		r.Prefetch()
		h.at ^= uint32(useRoute(&r) >> 63)
	}
	return err
}

var useSeed = maphash.MakeSeed()

// useRoute reads what a request does: of each backend whether it can be chosen, of one the keys of its
// pool and of its frontend's counters, and what the access log tells. It returns a number below 1<<63.
func useRoute(r *Route) uint64 {
	f, sum, chosen := r.Frontend(), uint64(0), 0
	for i := range f.Backends {
		if b := &f.Backends[i]; b.Err == nil && r.Alive(i) {
			sum += uint64(b.Weight)
			chosen = i
		}
	}
	if sum > 0 {
		sum = maphash.String(useSeed, f.Backends[chosen].Key)
	}
	sum ^= maphash.String(useSeed, f.Key)
	sum ^= maphash.String(useSeed, f.VHost)
	return (sum ^ maphash.String(useSeed, f.Backends[chosen].URL)) >> 1
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

// filled returns a cache without a store that knows n exact hosts and *.pool.example.
func filled(b *testing.B, n int) *Cache {
	b.Helper()
	c, err := New(Options{Driver: []string{"file:unused.json"}, MaxHosts: n + 1000})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	c.up()
	// As in a cache that has run for a moment: which policies exist is known.
	if err := c.buildIndex(context.Background(), c.epoch.Load()); err != nil {
		b.Fatal(err)
	}
	for _, i := range rand.Perm(n) {
		settleList(c, string(hostName(nil, i)), "id", fmt.Sprintf("http://10.%d.%d.%d:8080", i>>16, i>>8&255, i&255),
			fmt.Sprintf("http://11.%d.%d.%d:8080", i>>16, i>>8&255, i&255))
	}
	pool, _ := settleList(c, "*.pool.example", "pool", "http://10.0.0.1:80")
	e, v := settleList(c, "x.pool.example")
	c.bind(e, v, pool, c.gen.Load(), nil, never)
	runtime.GC()
	return c
}

// hostName appends the i-th host. It is made from the number, because a request's host is in the
// processor's cache, and a slice of a million names is not.
func hostName(dst []byte, i int) []byte {
	return append(strconv.AppendInt(append(dst, "host-"...), int64(i), 10), ".customers.example.com"...)
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
