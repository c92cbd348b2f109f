package cache

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// clusterHosts returns names whose lists lie on all masters.
func clusterHosts(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d.example", i)
	}
	return hosts
}

func TestCluster_FailoverOfAMasterByKill(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3, true, "--requirepass", "hush", "--masterauth", "hush")
	hosts := clusterHosts(12)
	for _, h := range hosts {
		s.Do(t, "RPUSH", "frontend:"+h, h, "10.0.0.1", "10.0.0.2")
	}
	s.Do(t, "RPUSH", "frontend:*.pool.example", "pool", "10.0.0.9")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger(), MaxMissRate: -1})
	for _, h := range hosts {
		awaitAnswer(t, c, h, "10.0.0.1 10.0.0.2")
	}
	awaitAnswer(t, c, "x.pool.example", "10.0.0.9")
	awaitAnswer(t, c, "no.test", "unknown")
	route := mustLookup(t, c, hosts[0])
	c.MarkDead(&route, 1)
	eventually(t, "the mark is written", func() bool { return s.Do(t, "EXISTS", "dead:"+hosts[0]) == int64(1) })
	awaitAnswer(t, c, hosts[0], "10.0.0.1")

	victim := s.Owner("frontend:" + hosts[1])
	if n := victim.Int("WAIT", "1", "5000"); n != 1 {
		t.Fatalf("%d replicas have what the victim has, want 1", n)
	}
	killed := time.Now()
	victim.Kill()
	for s.Owner("frontend:"+hosts[1]) == nil {
		for _, h := range hosts[1:] {
			wantAnswer(t, c, h, "10.0.0.1 10.0.0.2")
		}
		if time.Since(killed) > 20*time.Second {
			t.Fatal("no replica took over")
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.AwaitOwner(t, "frontend:"+hosts[1], victim)
	promoted := time.Now()
	if n := s.Do(t, "RPUSH", "frontend:"+hosts[1], "10.0.0.3"); n != int64(4) {
		t.Fatalf("the list has %v elements on the new master", n)
	}
	awaitAnswer(t, c, hosts[1], "10.0.0.1 10.0.0.2 10.0.0.3")
	t.Logf("replica promoted %v after the kill, its change served %v later", promoted.Sub(killed), time.Since(promoted))
	for _, h := range hosts[2:] {
		s.Do(t, "RPUSH", "frontend:"+h, "10.0.0.3")
		awaitAnswer(t, c, h, "10.0.0.1 10.0.0.2 10.0.0.3")
	}
	victim.Restart()
	for _, h := range hosts[1:] {
		wantAnswer(t, c, h, "10.0.0.1 10.0.0.2 10.0.0.3")
	}
}

func TestCluster_SlotsMove(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3, false)
	hosts := clusterHosts(6)
	for _, h := range hosts {
		s.Do(t, "RPUSH", "frontend:"+h, h, "10.0.0.1")
	}
	c := start(t, Options{Driver: []string{s.URL()}, NegativeTTL: time.Hour, MaxMissRate: -1})
	for _, h := range hosts {
		awaitAnswer(t, c, h, "10.0.0.1")
	}
	awaitAnswer(t, c, "empty.test", "unknown")
	other := func(key string) *redistest.Server {
		for _, n := range s.Nodes {
			if n != s.Owner(key) {
				return n
			}
		}
		return nil
	}

	t.Log("a slot with keys")
	key := "frontend:" + hosts[0]
	s.MoveSlot(t, key, other(key))
	awaitAnswer(t, c, hosts[0], "10.0.0.1")
	s.Do(t, "RPUSH", key, "10.0.0.2")
	awaitAnswer(t, c, hosts[0], "10.0.0.1 10.0.0.2")

	t.Log("an empty slot, whose host is known to be unknown")
	key = "frontend:empty.test"
	s.MoveSlot(t, key, other(key))
	s.Do(t, "RPUSH", key, "e", "10.0.0.5")
	awaitAnswer(t, c, "empty.test", "10.0.0.5")

	t.Log("to a node that has just joined")
	joined := s.AddNode(t)
	for _, h := range hosts[1:3] {
		s.MoveSlot(t, "frontend:"+h, joined)
		joined.Do("RPUSH", "frontend:"+h, "10.0.0.6")
		awaitAnswer(t, c, h, "10.0.0.1 10.0.0.6")
	}
}

// TestCluster_ReadsInTheMiddleOfAMigration leaves a slot half moved: the key is where the slot is
// not yet.
func TestCluster_ReadsInTheMiddleOfAMigration(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 2, false)
	from := s.Owner("frontend:a.example")
	to := s.Nodes[0]
	if to == from {
		to = s.Nodes[1]
	}
	from.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	slot := fmt.Sprint(from.Int("CLUSTER", "KEYSLOT", "frontend:a.example"))
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", from.Text("CLUSTER", "MYID"))
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", to.Text("CLUSTER", "MYID"))
	from.Do("MIGRATE", "127.0.0.1", fmt.Sprint(to.Port), "frontend:a.example", "0", "5000")
	c := start(t, Options{Driver: []string{s.URL()}})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	conn := to.Connect()
	for _, command := range [][]string{{"ASKING"}, {"RPUSH", "frontend:a.example", "10.0.0.2"}} {
		if _, err := conn.Do(command...); err != nil {
			t.Fatal(err)
		}
	}
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
}

func TestCluster_LostMasterTakesOnlyItsSlots(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3, false, "--cluster-require-full-coverage", "no")
	victim := s.Nodes[0]    // has hchecker_ping, too
	var lost, live []string // hosts whose list is on the victim; whose list and dead set are not
	for _, h := range clusterHosts(60) {
		s.Do(t, "RPUSH", "frontend:"+h, h, "10.0.0.1", "10.0.0.9")
		list, dead := s.Owner("frontend:"+h), s.Owner("dead:"+h)
		switch {
		case list == victim:
			lost = append(lost, h)
		case dead != victim:
			live = append(live, h)
		}
	}
	known, unknown := lost[0], lost[1]
	c := start(t, Options{Driver: []string{s.URL()}, MaxMissRate: -1})
	awaitAnswer(t, c, known, "10.0.0.1 10.0.0.9")
	awaitAnswer(t, c, live[0], "10.0.0.1 10.0.0.9")
	victim.Kill()
	eventually(t, "the loss is noticed", func() bool { return c.m.mastersAway.Get() == 1 })
	time.Sleep(memberGrace)
	begin := time.Now()
	for range 100 {
		wantAnswer(t, c, known, "10.0.0.1 10.0.0.9")
		wantAnswer(t, c, unknown, "unavailable")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("200 lookups of a lost master's hosts took %v", took)
	}
	wantAnswer(t, c, live[0], "10.0.0.1 10.0.0.9")
	awaitAnswer(t, c, live[1], "10.0.0.1 10.0.0.9")
	s.Do(t, "RPUSH", "frontend:"+live[0], "10.0.0.2")
	awaitAnswer(t, c, live[0], "10.0.0.1 10.0.0.9 10.0.0.2")
	onLost, onLive := mustLookup(t, c, known), mustLookup(t, c, live[0])
	c.MarkDead(&onLost, 0)
	c.MarkDead(&onLive, 1)
	eventually(t, "the mark that can be written is", func() bool {
		return s.Do(t, "EXISTS", "dead:"+live[0]) == int64(1)
	})
	wantAnswer(t, c, known, "10.0.0.9")
	awaitAnswer(t, c, live[0], "10.0.0.1 10.0.0.2")

	// Another edge that starts now serves what is there.
	late := start(t, Options{Driver: []string{s.URL()}, MaxMissRate: -1})
	awaitAnswer(t, late, live[0], answer(c, live[0]))
	wantAnswer(t, late, unknown, "unavailable")

	victim.Restart()
	s.Do(t, "RPUSH", "frontend:"+known, known, "10.0.0.3")
	awaitAnswer(t, c, known, "10.0.0.3")
	awaitAnswer(t, late, known, "10.0.0.3")
}
