package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// What docs/consistency.md promises about outages; a busy machine may take faultSlack times that.
const (
	detectTime  = time.Second
	recoverTime = 100 * time.Millisecond
	faultSlack  = 5
)

// faultHosts is how many hosts are known when the store goes away.
const faultHosts = 300

// fault is one way in which a store goes away.
type fault struct {
	args       []string
	start      func(t testing.TB, args ...string) *redistest.Server // nil: redistest.Start
	begin, end func(s *redistest.Server)                            // end returns when it is over
	// changes tells that the test can write while the edge cannot read; restarts that the server
	// counts anew what it did.
	changes, restarts bool
}

// lockOutEdge ends the edge's connections, after which the server takes no new ones.
func lockOutEdge(s *redistest.Server) {
	s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	s.Do("CLIENT", "KILL", "TYPE", "pubsub")
}

// faults are all but those that need a network of their own.
var faults = map[string]fault{
	"killed": {
		args:  []string{"--appendonly", "yes"},
		begin: (*redistest.Server).Kill,
		end:   (*redistest.Server).Restart,

		restarts: true,
	},
	"frozen": {
		begin: (*redistest.Server).Stop,
		end:   (*redistest.Server).Continue,
	},
	"maxclients reached": {
		begin: func(s *redistest.Server) {
			s.Do("CONFIG", "SET", "maxclients", "1") // the test's own
			lockOutEdge(s)
		},
		end:     func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxclients", "1000") },
		changes: true,
	},
	"NOAUTH": {
		begin: func(s *redistest.Server) {
			s.Do("CONFIG", "SET", "requirepass", "secret")
			lockOutEdge(s)
		},
		end:     func(s *redistest.Server) { s.Do("CONFIG", "SET", "requirepass", "") },
		changes: true,
	},
	"LOADING": {
		args: []string{"--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"},
		begin: func(s *redistest.Server) {
			s.Do("SAVE")
			s.Restart()
		},
		end: func(s *redistest.Server) {
			for {
				if _, err := s.Try("PTTL", "frontend:*"); err == nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
		restarts: true,
	},
}

// TestFault_StoreGoesAway: whatever takes the store away, known hosts notice nothing, the others are
// refused in time, and what comes back counts at once.
func TestFault_StoreGoesAway(t *testing.T) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			survive(t, f)
		})
	}
}

// TestFault_BlackHole is the same for networks that swallow everything and refuse nothing.
func TestFault_BlackHole(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{
		"link down": {begin: (*redistest.Server).Unplug, end: (*redistest.Server).Plug},
		"no route":  {begin: (*redistest.Server).LoseRoute, end: (*redistest.Server).RegainRoute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if redistest.InNamespace(t) {
				f.start, f.changes = redistest.StartApart, true
				survive(t, f)
			}
		})
	}
}

// survive lets a fault happen under load and holds the cache to what it promises.
func survive(t *testing.T, f fault) {
	run := f.start
	if run == nil {
		run = redistest.Start
	}
	s := run(t, f.args...)
	loadLists(s, faultHosts, "10.0.0.1")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.1")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger(), MaxMissRate: -1})
	var hosts []string
	for i := range faultHosts {
		hosts = append(hosts, fmt.Sprintf("h%d.example", i), fmt.Sprintf("x%d.pool.example", i))
	}
	for range 2 { // what found the wildcard is resolved once more
		for _, host := range hosts {
			awaitAnswer(t, c, host, "10.0.0.1")
		}
	}
	eventually(t, "no read is under way", func() bool { return len(c.slots) == 0 })

	before, waits := listReads(s), c.m.misses.Get()
	load := startLoad(t, c, hosts)
	begun := time.Now()
	f.begin(s)
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	detected := time.Since(begun)
	if detected > faultSlack*detectTime {
		t.Errorf("noticed after %v, want at most %v", detected, detectTime)
	}
	first, later := refuseUnknown(t, c, "first"), refuseUnknown(t, c, "later")
	if n := c.m.misses.Get() - waits; n != 2*unknownCallers {
		t.Errorf("%d lookups waited for the store, want those of %d unknown hosts alone", n, 2*unknownCallers)
	}
	eventually(t, "no read is under way", func() bool { return len(c.slots) == 0 })
	want := "10.0.0.1"
	if f.changes {
		want = "10.0.0.2"
		// By the test's own connection: there may be no other.
		s.Do("EVAL", "for i = 0, ARGV[1] - 1 do redis.call('LSET', 'frontend:h' .. i .. '.example', 1, ARGV[2]) end "+
			"redis.call('LSET', 'frontend:*.pool.example', 1, ARGV[2])", "0", fmt.Sprint(faultHosts), want)
	}
	load.phase.Store(afterFault)
	f.end(s)
	answers := time.Now()
	eventually(t, "the watch stands again", func() bool { return c.epoch.Load()&1 == 1 })
	up := time.Since(answers)
	fresh := awaitFresh(t, c, hosts, want, answers)
	if up > faultSlack*recoverTime || fresh > 2*faultSlack*recoverTime {
		t.Errorf("the watch stood %v and every host was fresh %v after the store answered, want %v", up, fresh, recoverTime)
	}
	sweepDone(t, c)
	reads := listReads(s)
	if !f.restarts {
		reads -= before
	}
	// The exact name and two wildcards of each, by a lookup and by the sweep; and what a frozen server
	// was asked meanwhile.
	if limit := 6*len(hosts) + 2*unknownCallers; reads > limit {
		t.Errorf("%d reads for %d hosts after the return, want at most %d", reads, len(hosts), limit)
	}
	load.stop()
	load.report(detected, first, later, up, fresh, reads)
	wantOutageLog(t, log.String())
}

var lrangeCalls = regexp.MustCompile(`cmdstat_lrange:calls=(\d+)`)

// listReads returns how many lists the server has read since it started; 0 while it does not tell.
func listReads(s *redistest.Server) int {
	stats, err := s.Try("INFO", "commandstats")
	if match := lrangeCalls.FindStringSubmatch(fmt.Sprint(stats)); err == nil && match != nil {
		n, _ := strconv.Atoi(match[1]) // digits, by the pattern
		return n
	}
	return 0
}

// unknownCallers is how many lookups of unknown hosts come at once: more than reads may be in flight.
const unknownCallers = 400

// refuseUnknown looks many unknown hosts up at once and returns how long the slowest took.
func refuseUnknown(t *testing.T, c *Cache, wave string) time.Duration {
	t.Helper()
	var callers sync.WaitGroup
	var slowest atomic.Int64
	for i := range unknownCallers {
		callers.Go(func() {
			begin := time.Now()
			if got := answer(c, fmt.Sprintf("%s%d.unknown.test", wave, i)); got != "unavailable" {
				t.Errorf("an unknown host: got %q, want unavailable", got)
			}
			for took := int64(time.Since(begin)); ; {
				if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
					return
				}
			}
		})
	}
	callers.Wait()
	took := time.Duration(slowest.Load())
	if took > faultSlack*fetchTimeout {
		t.Errorf("an unknown host was refused after %v, want at most %v", took, fetchTimeout)
	}
	return took
}

// awaitFresh returns how long after begin the last host answered as wanted and with the store's word.
func awaitFresh(t *testing.T, c *Cache, hosts []string, want string, begin time.Time) time.Duration {
	t.Helper()
	var users sync.WaitGroup
	for part := range slices.Chunk(hosts, len(hosts)/4) {
		users.Go(func() {
			for _, host := range part {
				for {
					r, err := c.Lookup([]byte(host), testClient)
					if err == nil && !r.stale && answerOf(r, nil) == want {
						break
					}
					if time.Since(begin) > 10*time.Second {
						t.Errorf("%s answers %q, %v", host, answerOf(r, err), err)
						return
					}
				}
			}
		})
	}
	users.Wait()
	return time.Since(begin)
}

// sweepDone waits until what was read before the outage was read again.
func sweepDone(t *testing.T, c *Cache) {
	t.Helper()
	since := c.sweep.since.Load()
	eventually(t, "the sweep is over", func() bool {
		for _, kind := range []spaceKind{exactSpace, derivedSpace} {
			walk := walk{c: c, kind: kind}
			for batch := walk.next(sweepBatch); batch != nil; batch = walk.next(sweepBatch) {
				for _, e := range batch {
					if e.value.Load().epoch < since {
						return false
					}
				}
			}
		}
		return len(c.slots) == 0
	})
}

var outageEnd = regexp.MustCompile(`store available again" after=\S+ stale_answers=(\d+) refused=(\d+)`)

// wantOutageLog checks that one line says when the outage began and one that it is over and what it
// cost.
func wantOutageLog(t *testing.T, log string) {
	t.Helper()
	ends := outageEnd.FindAllStringSubmatch(log, -1)
	if strings.Count(log, "store unavailable,") != 1 || len(ends) != 1 {
		t.Fatalf("want one line when it begins and one when it ends:\n%s", log)
	}
	if ends[0][1] == "0" || ends[0][2] != fmt.Sprint(2*unknownCallers) {
		t.Errorf("%s stale answers and %s refused, want more than 0 and %d", ends[0][1], ends[0][2], 2*unknownCallers)
	}
}

// The phases of a fault; on return each use waits for its own reading, as docs/consistency.md says.
const (
	duringFault = iota
	afterFault
	phases
)

// load looks known hosts up all the time and measures how long each lookup takes.
type load struct {
	t      testing.TB
	cancel context.CancelFunc
	runs   sync.WaitGroup
	mu     sync.Mutex
	took   [phases][]time.Duration
	phase  atomic.Uint32
	flying atomic.Int64 // the most reads seen in flight
}

func startLoad(t testing.TB, c *Cache, hosts []string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel}
	for range 2 {
		l.runs.Go(func() {
			var took [phases][]time.Duration
			for n := 0; ctx.Err() == nil; n++ {
				host := []byte(hosts[rand.IntN(len(hosts))])
				begin := time.Now()
				_, err := c.Lookup(host, testClient)
				phase := l.phase.Load()
				took[phase] = append(took[phase], time.Since(begin))
				if err != nil {
					t.Errorf("%s is known and was refused: %v", host, err)
				}
				l.flying.Store(max(l.flying.Load(), int64(len(c.slots))))
				if n%16 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for phase := range took {
				l.took[phase] = append(l.took[phase], took[phase]...)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.runs.Wait()
}

func (l *load) report(detected, first, later, up, fresh time.Duration, reads int) {
	l.t.Helper()
	if n := l.flying.Load(); n > maxFlights {
		l.t.Errorf("%d reads in flight, want at most %d", n, maxFlights)
	}
	l.t.Logf("noticed after %v; unknown hosts refused within %v, then %v; watch up %v and all fresh %v after the store "+
		"answered, %d reads for them, at most %d in flight", detected.Round(time.Millisecond), first.Round(time.Millisecond),
		later.Round(time.Microsecond), up.Round(100*time.Microsecond), fresh.Round(100*time.Microsecond), reads, l.flying.Load())
	for phase, name := range []string{"during", "after"} {
		took := l.took[phase]
		if len(took) == 0 {
			continue
		}
		slices.Sort(took)
		at := func(share float64) time.Duration { return took[int(share*float64(len(took)-1))] }
		l.t.Logf("lookups of known hosts %s it: %d, p50 %v, p99 %v, max %v", name, len(took), at(0.5), at(0.99), at(1))
		if p99 := at(0.99); phase == duringFault && p99 > recoverTime {
			l.t.Errorf("p99 %v during the outage, want below 1 ms", p99)
		}
	}
}
