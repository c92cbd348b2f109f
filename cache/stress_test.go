package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/redistest"
)

// stressHosts is a mix of every kind of name: exact, under two wildcards, and under none.
func stressHosts() []string {
	var hosts []string
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("h%d.exact.test", i), fmt.Sprintf("h%d.one.test", i),
			fmt.Sprintf("h%d.two.one.test", i), fmt.Sprintf("h%d.none.example", i))
	}
	return hosts
}

// TestStress_NothingStaysStale changes lists of every kind under load while connections are killed
// and the server is replaced, then compares each name with what a reading from nothing says.
func TestStress_NothingStaysStale(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	stress(t, s.URL(), func(keys []string) {
		for round := range 6 {
			churn(t, s, keys, 300*time.Millisecond)
			if round == 3 {
				s.Kill()
				time.Sleep(50 * time.Millisecond) // an outage that lookups meet
				s.Restart()
			} else {
				s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			}
		}
		churn(t, s, keys, 300*time.Millisecond)
	})
}

// stress keeps lookups and marks going while disturb changes keys and breaks what it can, and then
// compares each host with what a cache that starts from nothing says.
func stress(t *testing.T, driver string, disturb func(keys []string)) {
	t.Helper()
	c := start(t, Options{Driver: []string{driver}, MaxMissRate: -1, NegativeTTL: time.Hour, TornWriteGrace: -1})
	hosts := stressHosts()
	keys := []string{"*.one.test", "*.two.one.test", "*"}
	for i := range 30 {
		keys = append(keys, fmt.Sprintf("h%d.exact.test", i), fmt.Sprintf("h%d.two.one.test", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	var lookups, failures atomic.Int64
	for range 8 {
		readers.Go(func() {
			for ctx.Err() == nil {
				host := hosts[rand.IntN(len(hosts))]
				route, err := c.Lookup([]byte(host), testClient)
				lookups.Add(1)
				if err == nil {
					route.Alive(0)
					c.MarkDead(&route, 0)
				} else if err == ErrUnavailable {
					failures.Add(1)
				}
				if rand.IntN(50) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	disturb(keys)
	cancel()
	readers.Wait()
	eventually(t, "the watch is up", func() bool { return c.epoch.Load()&1 == 1 })
	fresh := start(t, Options{Driver: []string{driver}, MaxMissRate: -1})
	for _, host := range hosts {
		want := urls(fresh, host)
		eventually(t, host+" answers "+want, func() bool { return urls(c, host) == want })
	}
	t.Logf("%d lookups, %d unavailable, %d invalidations", lookups.Load(), failures.Load(), c.m.invalidations.Get())
}

// churn writes and removes lists for a while.
func churn(t *testing.T, s *redistest.Server, keys []string, d time.Duration) {
	t.Helper()
	conn := s.Connect()
	defer conn.Close()
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		key := "frontend:" + keys[rand.IntN(len(keys))]
		var err error
		if rand.IntN(3) == 0 {
			_, err = conn.Do("DEL", key)
		} else {
			_, err = conn.Do("EVAL", "redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],unpack(ARGV))", "1", key,
				key, fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), fmt.Sprintf("10.1.%d.%d", n>>8&255, n&255))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// urls is what a host resolves to, dead or not.
func urls(c *Cache, host string) string {
	r, err := c.Lookup([]byte(host), testClient)
	if err != nil {
		return err.Error()
	}
	list := []string{r.Frontend().Key}
	for _, b := range r.Frontend().Backends {
		list = append(list, b.URL)
	}
	return strings.Join(list, " ")
}

// TestStress_OneReadForManyCallers asks for one unknown name from many sides at once.
func TestStress_OneReadForManyCallers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	s.Do("CONFIG", "RESETSTAT")
	s.Stop()
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if got := answer(c, "a.example"); got != "10.0.0.1" && got != "unavailable" {
				t.Errorf("got %q", got)
			}
		})
	}
	eventually(t, "the read is in flight", func() bool { return len(c.slots) == 1 })
	s.Continue()
	callers.Wait()
	if stats := s.Text("INFO", "commandstats"); !strings.Contains(stats, "cmdstat_lrange:calls=1,") {
		t.Errorf("more than one read:\n%s", stats)
	}
}

// TestStress_TableUnderGrowthAndRemoval reads while entries come and go.
func TestStress_TableUnderGrowthAndRemoval(t *testing.T) {
	t.Parallel()
	table := newTable()
	kept := make([]string, 200)
	for i := range kept {
		kept[i] = fmt.Sprintf("kept%d", i)
		table.insert(newEntry(kept[i], &value{}))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				name := kept[rand.IntN(len(kept))]
				for _, e := range [...]*entry{table.find([]byte(name)), table.findString(name)} {
					if e == nil || e.name() != name {
						t.Errorf("%s was not found, though it was there all the time: %v", name, e)
						return
					}
				}
			}
		})
	}
	var live []*entry
	for i := range 60_000 {
		e := newEntry(fmt.Sprintf("e%d", i), &value{})
		table.insert(e)
		live = append(live, e)
		if i%3 == 0 {
			j := rand.IntN(len(live))
			table.remove(live[j])
			live[j] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	close(done)
	readers.Wait()
	for _, e := range live {
		if table.findString(e.name()) != e {
			t.Fatalf("%s was lost", e.name())
		}
	}
	for _, name := range kept {
		if table.findString(name) == nil {
			t.Fatalf("%s was lost", name)
		}
	}
}

// writeOne replaces or removes one list at random, by try, which may fail while nobody has the key.
func writeOne(n int, keys []string, try func(args ...string) error) {
	key := "frontend:" + keys[rand.IntN(len(keys))]
	args := []string{"DEL", key}
	if n%3 != 0 {
		args = []string{
			"EVAL", "redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],unpack(ARGV))", "1", key,
			key, fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), fmt.Sprintf("10.1.%d.%d", n>>8&255, n&255),
		}
	}
	for range 2 { // the second time on another node
		if try(args...) == nil {
			return
		}
	}
}

// writeUntil writes until a deadline, at a rate that leaves the machine room.
func writeUntil(d time.Duration, keys []string, try func(args ...string) error) {
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		writeOne(n, keys, try)
		if n%8 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestStress_SentinelFailovers fails a master over, by hand and by a kill, while lists change.
func TestStress_SentinelFailovers(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 2)
	stress(t, s.URL(), func(keys []string) {
		master := s.Master()
		try := func(args ...string) error {
			_, err := master.Try(args...)
			return err
		}
		writeUntil(300*time.Millisecond, keys, try)
		s.All[0].Do("SENTINEL", "FAILOVER", redistest.MasterName)
		old := master
		master = s.AwaitMaster(t, old)
		writeUntil(300*time.Millisecond, keys, try)
		master.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		writeUntil(100*time.Millisecond, keys, try)
		old = master
		old.Kill()
		master = s.AwaitMaster(t, old)
		writeUntil(300*time.Millisecond, keys, try)
	})
}

// TestStress_ClusterFailoverAndMovingSlots moves slots, cuts connections and kills a master while
// lists change.
func TestStress_ClusterFailoverAndMovingSlots(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3, true)
	stress(t, s.URL(), func(keys []string) {
		try := s.Write
		writeUntil(300*time.Millisecond, keys, try)
		for i, key := range keys[:6] {
			to := s.Nodes[i%3]
			if to == s.Owner("frontend:"+key) {
				to = s.Nodes[(i+1)%3]
			}
			s.MoveSlot(t, "frontend:"+key, to)
			writeUntil(50*time.Millisecond, keys, try)
		}
		for _, n := range s.Nodes[:3] {
			n.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			writeUntil(50*time.Millisecond, keys, try)
		}
		victim := s.Owner("frontend:" + keys[0])
		victim.Kill()
		s.AwaitOwner(t, "frontend:"+keys[0], victim)
		writeUntil(300*time.Millisecond, keys, try)
		victim.Restart()
		writeUntil(200*time.Millisecond, keys, try)
	})
}
