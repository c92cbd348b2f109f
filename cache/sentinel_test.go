package cache

import (
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

func TestSentinel_FailoverWhileServing(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 2, "--requirepass", "hush", "--masterauth", "hush")
	master := s.Master()
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	master.Do("WAIT", "2", "5000")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{s.URL()}, Log: log.Logger()})
	wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	wantAnswer(t, c, "b.example", "unknown")

	killed := time.Now()
	master.Kill()
	next := s.AwaitMaster(t, master)
	promoted := time.Now()
	next.Do("RPUSH", "frontend:a.example", "10.0.0.3")
	next.Do("RPUSH", "frontend:b.example", "b", "10.0.0.4")
	for got := ""; got != "10.0.0.1 10.0.0.2 10.0.0.3"; got = answer(c, "a.example") {
		if got != "" && got != "10.0.0.1 10.0.0.2" {
			t.Fatalf("a known host answered %q", got)
		}
		if time.Since(promoted) > 10*time.Second {
			t.Fatalf("the change on the new master did not arrive:\n%s", log.String())
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("new master %v after the kill, its change served %v later", promoted.Sub(killed), time.Since(promoted))
	awaitAnswer(t, c, "b.example", "10.0.0.4")
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	eventually(t, "the mark is on the new master", func() bool { return next.Int("EXISTS", "dead:a.example") == 1 })

	// The old master comes back as an orphan that believes in itself, until a sentinel tells it.
	master.Restart()
	master.Do("DEL", "frontend:a.example")
	for range 100 {
		wantAnswer(t, c, "a.example", "10.0.0.2 10.0.0.3")
		time.Sleep(5 * time.Millisecond)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the log shows the password:\n%s", log.String())
	}
}

func TestSentinel_OrderlyFailoverAndDeadSentinel(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 1)
	master := s.Master()
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL() + "/0"}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	s.All[0].Stop() // two are enough
	s.All[1].Do("SENTINEL", "FAILOVER", redistest.MasterName)
	next := s.AwaitMaster(t, master)
	begin := time.Now()
	next.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	t.Logf("change on the new master served after %v", time.Since(begin))
}

func TestSentinel_BehindAReplica(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 1)
	s.Master().Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	s.Master().Do("WAIT", "1", "5000")
	c := start(t, Options{Driver: []string{s.Redis[1].URL(), s.URL()}})
	wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	eventually(t, "the mark is on the master", func() bool { return s.Redis[0].Int("EXISTS", "dead:a.example") == 1 })
}

func TestSentinel_UnknownMasterIsNamedInTheLog(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 0)
	var log logtest.Buffer
	c := startUnready(t, Options{Driver: []string{strings.Replace(s.URL(), "/"+redistest.MasterName, "/other", 1)}, Log: log.Logger()})
	wantAnswer(t, c, "a.example", "unavailable")
	eventually(t, "the log says why", func() bool { return strings.Contains(log.String(), "it knows no master") })
}

func TestSentinel_FrozenMasterWakesUpDeposed(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 1)
	master := s.Master()
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	if n := master.Int("WAIT", "1", "5000"); n != 1 {
		t.Fatalf("%d replicas have the list, want 1", n)
	}
	c := start(t, Options{Driver: []string{s.URL()}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	master.Stop()
	next := s.AwaitMaster(t, master)
	next.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	master.Continue() // believes that it is the master still, with the old list
	for range 200 {
		wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
		c.flushed() // asks again
		time.Sleep(5 * time.Millisecond)
	}
}
