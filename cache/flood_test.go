package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/redistest"
)

const (
	// floodTime is how long a flood lasts, floodSenders how many ask at the same time: more than may
	// wait for a turn.
	floodTime    = time.Second
	floodSenders = 4600
	// floodRoom is the limit of the spaces that a flood may fill.
	floodRoom = 3000
	// floodHosts is how many hosts have lists of their own.
	floodHosts = 2000
)

// TestFlood asks for random names at full speed while real hosts are in use.
func TestFlood(t *testing.T) {
	t.Parallel()
	for name, flood := range map[string]struct {
		wildcard string // empty: nothing answers for the random names
		suffix   string
	}{
		"nothing answers":       {"", ".nowhere.example"},
		"a wildcard answers":    {"*.pool.example", ".pool.example"},
		"the catch-all answers": {"*", ".anywhere.example"},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			loadLists(s, floodHosts, "10.0.0.1")
			if flood.wildcard != "" {
				s.Do("RPUSH", "frontend:"+flood.wildcard, "pool", "10.0.0.9")
			}
			c := start(t, Options{Driver: []string{s.URL()}, MaxDerivedHosts: floodRoom, MaxUnknownHosts: floodRoom})
			for i := range floodHosts {
				awaitAnswer(t, c, fmt.Sprintf("h%d.example", i), "10.0.0.1")
			}
			s.Do("CONFIG", "RESETSTAT")
			f := startFlood(c, flood.suffix)
			known := f.watchKnown(t, c)
			created := f.create(t, c, s, flood.suffix)
			took := f.wait()
			reads := calls(s, "lrange")
			t.Logf("%d names in %v: %d answered, %d refused; %.0f reads/s; known hosts: p99 %v, worst %v; new host after %v",
				f.asked.Load(), took.Round(time.Millisecond), f.answered.Load(), f.refused.Load(),
				float64(reads)/took.Seconds(), known[len(known)*99/100], known[len(known)-1], created)
			f.checkBounds(t, c, reads, took)
			if p99 := known[len(known)*99/100]; p99 > 100*time.Millisecond {
				t.Errorf("known hosts: p99 is %v", p99)
			}
		})
	}
}

// flood is a flood of random names from many networks.
type flood struct {
	began                    time.Time
	senders                  sync.WaitGroup
	asked, answered, refused atomic.Int64
}

func startFlood(c *Cache, suffix string) *flood {
	f := &flood{began: time.Now()}
	for range floodSenders {
		f.senders.Go(func() {
			var name [64]byte
			for time.Since(f.began) < floodTime {
				f.asked.Add(1)
				client := netip.AddrFrom4([4]byte{10, byte(rand.Uint32()), byte(rand.Uint32()), 1})
				_, err := c.Lookup(fmt.Appendf(name[:0], "r%x%s", rand.Uint64(), suffix), client)
				if err == ErrLookupLimited {
					f.refused.Add(1)
					runtime.Gosched() // as a real sender's round trip does
				} else {
					f.answered.Add(1)
				}
			}
		})
	}
	return f
}

func (f *flood) wait() time.Duration {
	f.senders.Wait()
	return time.Since(f.began)
}

// watchKnown returns how long lookups of known hosts take in the flood, in rising order.
func (f *flood) watchKnown(t *testing.T, c *Cache) []time.Duration {
	var times []time.Duration
	for i := 0; time.Since(f.began) < floodTime/2; i++ {
		name := fmt.Appendf(nil, "h%d.example", i%floodHosts)
		begin := time.Now()
		_, err := c.Lookup(name, testClient)
		times = append(times, time.Since(begin))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			break
		}
	}
	slices.Sort(times)
	return times
}

// create makes a host in the flood and returns how long it takes to be served.
func (f *flood) create(t *testing.T, c *Cache, s *redistest.Server, suffix string) time.Duration {
	begin := time.Now()
	s.Do("RPUSH", "frontend:just-deployed"+suffix, "new", "10.0.0.7")
	awaitAnswer(t, c, "just-deployed"+suffix, "10.0.0.7")
	took := time.Since(begin)
	if took > time.Second {
		t.Errorf("a host that was created in the flood was served after %v", took)
	}
	return took
}

// checkBounds holds the flood against what is promised.
func (f *flood) checkBounds(t *testing.T, c *Cache, reads int, took time.Duration) {
	for kind, room := range map[spaceKind]int{derivedSpace: floodRoom, unknownSpace: floodRoom} {
		if n := c.count(kind); n > room {
			t.Errorf("%d %s names are kept, limit %d", n, spaceNames[kind], room)
		}
	}
	if n := c.m.evictions[exactSpace].Get(); n != 0 {
		t.Errorf("%d hosts with lists of their own were evicted", n)
	}
	// Each turn reads a name and, once in a while, the wildcards that it may fall under.
	if limit := discoverRate*(took.Seconds()+0.1) + discoverBurst + 1000; float64(reads) > limit {
		t.Errorf("%d reads in %v, limit %.0f", reads, took, limit)
	}
}

// TestFlood_ColdEdgeWarmsWithoutRefusals asks an empty cache for many live hosts at once, half of
// them under a wildcard, all from one network.
func TestFlood_ColdEdgeWarmsWithoutRefusals(t *testing.T) {
	t.Parallel()
	// Each client must get its answer within fetchTimeout: a slow machine has fewer of them.
	hosts, askers := 20_000, 64
	if scaleWanted() {
		hosts, askers = 100_000, 1000
	}
	s := redistest.Start(t)
	loadLists(s, hosts/2, "10.0.0.1")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.9")
	c := start(t, Options{Driver: []string{s.URL()}})
	var next, failures atomic.Int64
	var clients sync.WaitGroup
	begin := time.Now()
	for range askers {
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < hosts; i = int(next.Add(1)) - 1 {
				name := fmt.Sprintf("h%d.example", i/2)
				if i%2 == 1 {
					name = fmt.Sprintf("h%d.pool.example", i)
				}
				if _, err := c.Lookup([]byte(name), testClient); err != nil {
					failures.Add(1)
				}
			}
		})
	}
	clients.Wait()
	t.Logf("%d hosts in %v", hosts, time.Since(begin).Round(time.Millisecond))
	if n := failures.Load(); n > 0 {
		t.Errorf("%d of %d lookups failed", n, hosts)
	}
}

func TestPace_TurnsComeAtTheRate(t *testing.T) {
	t.Parallel()
	var p pace
	now := int64(time.Hour)
	for range discoverBurst {
		if wait, ok := p.turn(now); wait != 0 || !ok {
			t.Fatalf("within the burst: wait %v, %v", wait, ok)
		}
	}
	waits := 0
	for ok := true; ok; waits++ {
		_, ok = p.turn(now)
	}
	if want := int(discoverWait.Seconds()*discoverRate) + 1; waits < want || waits > want+2 {
		t.Errorf("%d may wait, want %d", waits, want)
	}
	if _, ok := p.turn(now + int64(time.Second)); !ok {
		t.Error("a second later there is no turn")
	}
}

// calls is how often a command was executed since CONFIG RESETSTAT.
func calls(s *redistest.Server, command string) int {
	_, rest, _ := strings.Cut(s.Text("INFO", "commandstats"), "cmdstat_"+command+":calls=")
	text, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.Atoi(text) // none: never
	return n
}
