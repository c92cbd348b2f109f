package cache

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// startOrphan runs a replica of a master that was there and is not: it has never been in step.
func startOrphan(t *testing.T) (replica, master *redistest.Server) {
	t.Helper()
	master = redistest.Start(t)
	master.Kill()
	return redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port)), master
}

// TestReplica_AbsentIsBelievedOnlyOfOneThatWasInStep: an empty replica whose master is away does not
// know what exists.
func TestReplica_AbsentIsBelievedOnlyOfOneThatWasInStep(t *testing.T) {
	t.Parallel()
	for name, drivers := range map[string]func(replica, master *redistest.Server) []string{
		"replica and master": func(replica, master *redistest.Server) []string { return []string{replica.URL(), master.URL()} },
		"replica alone":      func(replica, _ *redistest.Server) []string { return []string{replica.URL()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replica, master := startOrphan(t)
			var log logtest.Buffer
			c := startUnready(t, Options{Driver: drivers(replica, master), Log: log.Logger(), MaxMissRate: -1})
			never := func(when string) {
				t.Helper()
				for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
					if got := answer(c, "a.example"); got != "unavailable" {
						t.Fatalf("%s: got %q, want unavailable", when, got)
					}
				}
			}
			never("a replica that was never in step")
			if c.Ready() {
				t.Error("ready by a replica that was never in step")
			}
			master.Restart()
			master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
			master.Do("RPUSH", "frontend:b.example", "b", "10.0.0.2")
			awaitAnswer(t, c, "a.example", "10.0.0.1")
			if n := master.Int("WAIT", "1", "10000"); n != 1 {
				t.Fatalf("%d replicas are in step, want 1", n)
			}
			eventually(t, "reads go to the replica", func() bool {
				return strings.Contains(replica.Text("CLIENT", "LIST"), "cmd=subscribe")
			})

			master.Kill()
			eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
			awaitAnswer(t, c, "b.example", "10.0.0.2")
			awaitAnswer(t, c, "no.example", "unknown")
			wantAnswer(t, c, "a.example", "10.0.0.1")
			replica.Restart() // empty, and its master is away still
			for range 3 {
				for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
					if got := answer(c, "c.example"); got != "unavailable" {
						t.Fatalf("an empty replica: got %q, want unavailable", got)
					}
				}
				wantAnswer(t, c, "a.example", "10.0.0.1")
				wantAnswer(t, c, "b.example", "10.0.0.2")
			}
			if strings.Count(log.String(), "store unavailable,") > 2 {
				t.Errorf("the outages were logged too often:\n%s", log.String())
			}
		})
	}
}

// TestReplica_ThatItsMasterDoesNotReachIsLeft blocks the way between the two: no connection ends, and
// the replica goes on answering with what it had.
func TestReplica_ThatItsMasterDoesNotReachIsLeft(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "--repl-ping-replica-period", "1")
	relay := redistest.StartRelay(t, master)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(relay.Port))
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	var log logtest.Buffer
	c, err := New(Options{Driver: []string{replica.URL(), master.URL()}, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	c.store.(*redisStore).maxSilence = 2 * time.Second // instead of 15
	run(t, c)
	onReplica := func() bool { return strings.Contains(replica.Text("CLIENT", "LIST"), "cmd=subscribe") }
	eventually(t, "reads go to the replica", onReplica)
	awaitAnswer(t, c, "a.example", "10.0.0.1")

	relay.Block()
	begin := time.Now()
	master.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	t.Logf("the replica was left %v after it lost its master", time.Since(begin))
	if !strings.Contains(log.String(), "reads move to the master") {
		t.Errorf("the log does not say so:\n%s", log.String())
	}
	relay.Release()
	eventually(t, "reads move back", onReplica)
	master.Do("RPUSH", "frontend:a.example", "10.0.0.3")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2 10.0.0.3")
}

// TestReplica_AloneThatItsMasterDoesNotReach has no other server to go to: what is known is served,
// and the log and the metrics say that nothing confirms it.
func TestReplica_AloneThatItsMasterDoesNotReach(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{replica.URL()}, Log: log.Logger()})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	replica.Do("REPLICAOF", "127.0.0.1", "1")
	eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
	wantAnswer(t, c, "a.example", "10.0.0.1")
	if !strings.Contains(log.String(), errOutOfStep.Error()) {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
	replica.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(master.Port))
	eventually(t, "the watch stands again", func() bool { return c.epoch.Load()&1 == 1 })
	master.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
}

// TestReplica_ThatAnswersNothingWithoutItsMaster: such a server refuses PING too, which the client
// library did not expect after a watch that could not stand, and ended the process.
func TestReplica_ThatAnswersNothingWithoutItsMaster(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	replica := redistest.StartReplica(t, master, "--replica-serve-stale-data", "no")
	c := start(t, Options{Driver: []string{replica.URL(), master.URL()}})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	for range 3 {
		master.Kill()
		eventually(t, "the loss is noticed", func() bool { return c.epoch.Load()&1 == 0 })
		for range 20 {
			wantAnswer(t, c, "a.example", "10.0.0.1")
			time.Sleep(5 * time.Millisecond)
		}
		master.Restart()
		master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
		awaitAnswer(t, c, "a.example", "10.0.0.1")
		eventually(t, "the watch stands again", func() bool { return c.epoch.Load()&1 == 1 })
	}
}
