package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/cache"
	"sluice/internal/redistest"
)

// lookupClient is who asks; one client is enough since limits per client are off here.
var lookupClient = netip.MustParseAddr("192.0.2.1")

// lookupHosts are the sizes of the table of frontends.
var lookupHosts = []int{1, 10_000, 100_000, 1_000_000}

// manyHosts is a size that takes seconds to fill; -short leaves it out.
const manyHosts = 1_000_000

// lookupKinds are the names without a list of their own that are asked for: derived ones are answered
// by a wildcard, unknown ones are remembered as having none.
var lookupKinds = []struct {
	result, suffix string
	want           error
}{
	{"derived", ".pool.test", nil},
	{"unknown", ".absent.test", cache.ErrUnknownHost},
}

// otherNames is how many names of each other kind are asked for, however many have a list.
const otherNames = 10_000

// BenchmarkLookup asks for a host as the proxy does, with few and with many hosts in the table. The
// results: hit has a list of its own, the others are those of lookupKinds.
func BenchmarkLookup(b *testing.B) {
	needRedis(b)
	for _, hosts := range lookupHosts {
		if hosts >= manyHosts && testing.Short() {
			continue
		}
		b.Run("impl=sluice/result=hit/hosts="+count(hosts), func(b *testing.B) {
			c, names := shared.cacheOf(hosts)
			benchmarkLookup(b, names, nil, lookupIn(c))
		})
		b.Run("impl=rwmutex_map/result=hit/hosts="+count(hosts), func(b *testing.B) {
			benchmarkMap(b, hosts)
		})
		for _, kind := range lookupKinds {
			b.Run("impl=sluice/result="+kind.result+"/hosts="+count(hosts), func(b *testing.B) {
				c, _ := shared.cacheOf(hosts)
				benchmarkLookup(b, suffixed(otherNames, kind.suffix), kind.want, lookupIn(c))
			})
		}
	}
}

// lookupIn looks a name up in c.
func lookupIn(c *cache.Cache) func(name []byte) error {
	return func(name []byte) error {
		_, err := c.Lookup(name, lookupClient)
		return err
	}
}

// BenchmarkLookupMiss asks for names that were never asked for, so that each lookup reads the
// store: by how many callers it is shared, and how many reads are under way at once, decides what
// it costs.
func BenchmarkLookupMiss(b *testing.B) {
	needRedis(b)
	c, _ := shared.cacheOf(1)
	for _, kind := range lookupKinds {
		b.Run("impl=sluice/result="+kind.result, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(connectionsPerCore)
			b.RunParallel(func(pb *testing.PB) {
				name := []byte("m" + strconv.FormatUint(rand.Uint64(), 36) + "x")
				prefix := len(name)
				for i := uint64(0); pb.Next(); i++ {
					name = strconv.AppendUint(name[:prefix], i, 36)
					name = append(name, kind.suffix...)
					if _, err := c.Lookup(name, lookupClient); !errors.Is(err, kind.want) {
						b.Errorf("lookup of %s: %v, want %v", name, err, kind.want)
						return
					}
				}
			})
		})
	}
}

// benchmarkLookup looks names up in random order on every core.
func benchmarkLookup(b *testing.B, names [][]byte, want error, lookup func(name []byte) error) {
	b.Helper()
	for _, name := range names {
		if err := lookup(name); !errors.Is(err, want) {
			b.Fatalf("lookup of %s: %v, want %v", name, err, want)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(names)); pb.Next(); i++ {
			if err := lookup(names[i%len(names)]); !errors.Is(err, want) {
				b.Errorf("lookup of %s: %v, want %v", names[i%len(names)], err, want)
				return
			}
		}
	})
}

// benchmarkMap is the twin: a map behind a lock, which knows no expiry, no marks and no change.
func benchmarkMap(b *testing.B, hosts int) {
	b.Helper()
	var mu sync.RWMutex
	table := make(map[string]*cache.Frontend, hosts)
	for i := range hosts {
		table[hostName(i)] = &cache.Frontend{VHost: hostName(i)}
	}
	benchmarkLookup(b, shuffledNames(hosts), nil, func(name []byte) error {
		mu.RLock()
		f := table[string(name)]
		mu.RUnlock()
		if f == nil || f.VHost == "" {
			return cache.ErrUnknownHost
		}
		return nil
	})
}

// shuffledNames are the names of hosts frontends, in an order that no cache line likes.
func shuffledNames(hosts int) [][]byte {
	names := make([][]byte, hosts)
	for i, j := range rand.Perm(hosts) {
		names[i] = []byte(hostName(j))
	}
	return names
}

func suffixed(n int, suffix string) [][]byte {
	names := make([][]byte, n)
	for i := range names {
		names[i] = []byte("n" + strconv.Itoa(i) + suffix)
	}
	return names
}

// needRedis skips a benchmark on a machine without redis-server.
func needRedis(b *testing.B) {
	b.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		b.Skip("redis-server is not in PATH: apt-get install redis-server")
	}
}

// lookupCache is a cache that knows its names.
type lookupCache struct {
	cache *cache.Cache
	names [][]byte
}

// cacheOf returns a cache over hosts frontends and their names, all of them asked for before.
func (s *suite) cacheOf(hosts int) (*cache.Cache, [][]byte) {
	if known, ok := s.caches[hosts]; ok {
		return known.cache, known.names
	}
	c := s.startCache(hosts, "http://127.0.0.1:9")
	names := shuffledNames(hosts)
	s.must(fill(c, names))
	s.caches[hosts] = lookupCache{c, names}
	return c, names
}

// startCache starts a cache on a redis-server of its own that routes hosts names, and the wildcard
// *.pool.test, to backend.
func (s *suite) startCache(hosts int, backend string) *cache.Cache {
	redis, err := redistest.Launch()
	s.must(err)
	s.Cleanup(redis.Close)
	redis.Load(func(yield func(args ...string)) {
		yield("RPUSH", "frontend:*.pool.test", "pool", backend)
		for i := range hosts {
			yield("RPUSH", "frontend:"+hostName(i), hostName(i), backend)
		}
	})
	// A lookup that misses must reach the store, and an entry must not age while it is measured.
	c, err := cache.New(cache.Options{
		Driver:      []string{redis.URL()},
		MaxMissRate: -1,
		MaxAge:      24 * time.Hour,
		NegativeTTL: time.Hour,
	})
	s.must(err)
	s.Cleanup(func() { s.must(c.Close()) })
	s.must(c.Start(context.Background()))
	s.must(awaitReady(c))
	return c
}

// startTimeout bounds the time until a cache has spoken with its store.
const startTimeout = 20 * time.Second

// awaitReady waits for the first answer of the store.
func awaitReady(c *cache.Cache) error {
	deadline := time.Now().Add(startTimeout)
	for !c.Ready() {
		if time.Now().After(deadline) {
			return errors.New("wait for the store: no answer")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// fillWorkers is how many lookups are under way while a cache is filled.
const fillWorkers = 64

// fill looks every name up.
func fill(c *cache.Cache, names [][]byte) error {
	errs := make(chan error, fillWorkers)
	for first := range fillWorkers {
		go func() {
			for i := first; i < len(names); i += fillWorkers {
				if _, err := c.Lookup(names[i], lookupClient); err != nil {
					errs <- fmt.Errorf("look %s up: %w", names[i], err)
					return
				}
			}
			errs <- nil
		}()
	}
	var all error
	for range fillWorkers {
		all = errors.Join(all, <-errs)
	}
	return all
}
