package cache

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

func TestCompat_WildcardsOfHipacheTable1(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.foo.bar", "id", "201")
		r.set("foo.bar", "id", "202")
		r.set("pipo.foo.bar", "id", "203")
		r.set("*.baz.foo.bar", "id", "204")
		c := start(t, Options{Driver: []string{r.driver()}})
		for range 2 { // from the store, then from memory
			for host, want := range map[string]string{
				"test.foo.bar":    "201",
				"foo.bar":         "202",
				"pipo.foo.bar":    "203",
				"qux.baz.foo.bar": "204",
				"qux.bix.foo.bar": "201",
				"qux.bix.bar.foo": "unknown",
			} {
				wantAnswer(t, c, host, want)
			}
		}
	})
}

func TestCompat_WildcardsOfHipacheTable2(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.quux", "id", "201")
		r.set("*.qux.quux", "id", "202")
		r.set("*.baz.qux.quux", "id", "203")
		r.set("*.bar.baz.qux.quux", "id", "204")
		r.set("foo.bar.baz.qux.quux", "id", "205")
		r.set("*.foo.bar.baz.qux.quux", "id", "206")
		r.set("*.quuux.foo.bar.baz.qux.quux", "id", "207")
		c := start(t, Options{Driver: []string{r.driver()}})
		for range 2 {
			for host, want := range map[string]string{
				"too.deep.quuux.foo.bar.baz.qux.quux": "206",
				"too.deep.foo.bar.baz.qux.quux":       "206",
				"foo.bar.baz.qux.quux":                "205",
				"bar.bar.baz.qux.quux":                "204",
				"foo.baz.qux.quux":                    "203",
				"foo.qux.quux":                        "202",
				"foo.quux":                            "201",
			} {
				wantAnswer(t, c, host, want)
			}
		}
	})
}

func TestCompat_FirstListThatIsNotEmptyWins(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("only-id.pool.example", "just the identifier")
		r.set("*.pool.example", "pool", "10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		route := mustLookup(t, c, "only-id.pool.example")
		if f := route.Frontend(); f.VHost != "just the identifier" || len(f.Backends) != 0 {
			t.Errorf("identifier-only list: got %+v, want no backend of the wildcard's", f)
		}
		route = mustLookup(t, c, "a.pool.example")
		if f := route.Frontend(); f.Key != "*.pool.example" || f.VHost != "pool" {
			t.Errorf("wildcard: got key %q and identifier %q", f.Key, f.VHost)
		}
	})
}

func TestCompat_AllDeadDoesNotFallThroughToWildcard(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.pool.example", "own", "10.0.0.1:80", "10.0.0.2:80")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.3:80")
	s.Do("SADD", "dead:a.pool.example", "0", "1")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.pool.example")
	if got := answerOf(route, nil); got != "" || route.Frontend().Key != "a.pool.example" {
		t.Errorf("got live backends %q of %q, want none of the exact list", got, route.Frontend().Key)
	}
}

func TestCompat_DeadSetIsThatOfTheRequestedHost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.1:80", "10.0.0.2:80")
	c := start(t, Options{Driver: []string{s.URL()}})
	wantAnswer(t, c, "a.pool.example", "10.0.0.1:80 10.0.0.2:80")
	s.Do("SADD", "dead:a.pool.example", "1")
	awaitAnswer(t, c, "a.pool.example", "10.0.0.1:80")
	wantAnswer(t, c, "b.pool.example", "10.0.0.1:80 10.0.0.2:80")
	s.Do("SREM", "dead:a.pool.example", "1")
	awaitAnswer(t, c, "a.pool.example", "10.0.0.1:80 10.0.0.2:80")
}

func TestCompat_PrefixIsForFrontendAndDeadAlone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "px:frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80")
	s.Do("RPUSH", "frontend:b.example", "b", "10.0.0.1:80")
	s.Do("SADD", "px:dead:a.example", "1")
	messages := s.Subscribe("dead")
	c := start(t, Options{Driver: []string{s.URL() + "#px:"}})
	wantAnswer(t, c, "a.example", "10.0.0.1:80")
	wantAnswer(t, c, "b.example", "unknown")
	s.Do("SREM", "px:dead:a.example", "1")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80")
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	wantMessage(t, messages, "a.example;10.0.0.1:80;0;2")
	eventually(t, "the mark is under the prefix", func() bool {
		return slices.Equal(s.Strings("SMEMBERS", "px:dead:a.example"), []string{"0"})
	})
	s.Do("SET", "hchecker_ping", strconv.FormatInt(time.Now().Unix(), 10))
	eventually(t, "the checker is seen without a prefix", c.CheckerAlive)
}

func TestCompat_TornWritesKeepTheListInUse(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.2:80")
	s.Do("RPUSH", "frontend:*.example", "wide", "10.0.0.9:80")
	c := start(t, Options{Driver: []string{s.URL()}, TornWriteGrace: 2 * time.Second})
	wantAnswer(t, c, "a.example", "10.0.0.1:80")
	wantAnswer(t, c, "x.pool.example", "10.0.0.2:80")
	begin := time.Now()
	for _, key := range []string{"frontend:a.example", "frontend:*.pool.example"} {
		pushes := c.m.invalidations.Get()
		s.Do("DEL", key)
		eventually(t, "the removal is announced", func() bool { return c.m.invalidations.Get() > pushes })
		wantAnswer(t, c, "a.example", "10.0.0.1:80")
		wantAnswer(t, c, "x.pool.example", "10.0.0.2:80")
		pushes = c.m.invalidations.Get()
		s.Do("RPUSH", key, "new identifier")
		eventually(t, "the identifier is announced", func() bool { return c.m.invalidations.Get() > pushes })
		wantAnswer(t, c, "a.example", "10.0.0.1:80")
		wantAnswer(t, c, "x.pool.example", "10.0.0.2:80")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Skipf("the machine took %v for what must fit into the grace", took)
	}
	// An identifier that stays alone takes effect when the grace ends; no name falls through.
	awaitAnswer(t, c, "a.example", "")
	awaitAnswer(t, c, "x.pool.example", "")
	if c.m.torn.Get() == 0 {
		t.Error("the saves were not counted")
	}
	s.Do("RPUSH", "frontend:a.example", "10.0.0.5:80")
	awaitAnswer(t, c, "a.example", "10.0.0.5:80")
}

func TestCompat_RemovalTakesEffectAfterTheGrace(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string][]string{
		"DEL": {"DEL", "frontend:a.example"}, "FLUSHALL": {"FLUSHALL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80")
			c := start(t, Options{Driver: []string{s.URL()}})
			wantAnswer(t, c, "a.example", "10.0.0.1:80")
			s.Do(remove...)
			begin := time.Now()
			awaitAnswer(t, c, "a.example", "unknown")
			if took := time.Since(begin); took < 150*time.Millisecond || took > 2*time.Second {
				t.Errorf("took effect after %v, want the grace of 200 ms", took)
			}
			if c.m.torn.Get() == 0 {
				t.Error("the grace was not counted")
			}
		})
	}
}

func TestCompat_NameThatWasNotCachedGetsNoGrace(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80")
	c := start(t, Options{Driver: []string{s.URL()}, TornWriteGrace: time.Minute})
	s.Do("DEL", "frontend:a.example")
	wantAnswer(t, c, "a.example", "unknown")
}

func TestCompat_RemovedElementShiftsNoMark(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	c := start(t, Options{Driver: []string{s.URL()}})
	wantAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
	s.Do("SADD", "dead:a.example", "1")
	s.Do("EXPIRE", "dead:a.example", "30")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.3:80")
	s.Do("LREM", "frontend:a.example", "1", "10.0.0.1:80")
	// The id 1 is now the position of 10.0.0.3, but it meant 10.0.0.2.
	awaitAnswer(t, c, "a.example", "10.0.0.3:80")
	s.Do("RPUSH", "frontend:a.example", "10.0.0.4:80")
	awaitAnswer(t, c, "a.example", "10.0.0.3:80 10.0.0.4:80")
}

func TestCompat_DeadEndsByItsTTLWithoutAPush(t *testing.T) {
	t.Parallel()
	// Without active expiry the server announces the end only when somebody touches the key.
	s := redistest.Start(t, "--enable-debug-command", "yes")
	s.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80")
	s.Do("SADD", "dead:a.example", "0")
	s.Do("PEXPIRE", "dead:a.example", "500")
	c := start(t, Options{Driver: []string{s.URL()}})
	begin := time.Now()
	awaitAnswer(t, c, "a.example", "10.0.0.2:80")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("alive again after %v, want 0.5 s", took)
	}
}

func TestCompat_FrontendEndsByItsTTLWithoutAPush(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes")
	s.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80")
	s.Do("PEXPIRE", "frontend:a.example", "500")
	c := start(t, Options{Driver: []string{s.URL()}, TornWriteGrace: -1})
	begin := time.Now()
	wantAnswer(t, c, "a.example", "10.0.0.1:80")
	awaitAnswer(t, c, "a.example", "unknown")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("gone after %v, want 0.5 s", took)
	}
}

func TestCompat_ReadsFromReplicaMarksOnMaster(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{replica.URL(), master.URL()}, Log: log.Logger()})
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80")
	if !strings.Contains(replica.Text("CLIENT", "LIST"), "name=sluice") {
		t.Error("nothing is connected to the replica")
	}
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	eventually(t, "the mark is on the master", func() bool { return master.Int("EXISTS", "dead:a.example") == 1 })
	eventually(t, "the mark is on the replica", func() bool { return replica.Int("EXISTS", "dead:a.example") == 1 })

	// The replica loses its master: reads and the watch move to the master, and back.
	replica.Do("REPLICAOF", "127.0.0.1", "1")
	eventually(t, "reads move to the master", func() bool { return strings.Contains(log.String(), "reads move to the master") })
	master.Do("RPUSH", "frontend:a.example", "10.0.0.3:80")
	master.Do("DEL", "dead:a.example")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
	replica.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(master.Port))
	eventually(t, "reads move back", func() bool { return strings.Contains(log.String(), "reads move back") })
	master.Do("RPUSH", "frontend:a.example", "10.0.0.4:80")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80")

	// The master goes away: the replica goes on answering for what is known.
	master.Kill()
	wantAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80")
}

func TestCompat_ReplicaGoneReadsMaster(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80")
	c := start(t, Options{Driver: []string{replica.URL(), master.URL()}})
	awaitAnswer(t, c, "a.example", "10.0.0.1:80")
	replica.Kill()
	master.Do("RPUSH", "frontend:a.example", "10.0.0.2:80")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80")
	replica.Restart()
	eventually(t, "reads move back to the replica", func() bool {
		return strings.Contains(replica.Text("CLIENT", "LIST"), "cmd=subscribe")
	})
	master.Do("RPUSH", "frontend:a.example", "10.0.0.3:80")
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
}
