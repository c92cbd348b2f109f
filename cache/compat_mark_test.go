package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/redistest"
)

func wantMessage(t *testing.T, messages <-chan string, want string) {
	t.Helper()
	select {
	case got := <-messages:
		if got != want {
			t.Errorf("announced: got %q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("nothing was announced, want %q", want)
	}
}

func TestCompat_MarkIsOneMultiAndAnAnnouncement(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "http://10.0.0.1:80", "http://10.0.0.2:80/")
	messages := s.Subscribe("dead")
	monitor := s.Connect()
	defer monitor.Close()
	if _, err := monitor.Do("MONITOR"); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Driver: []string{s.URL()}, DeadTTL: 20 * time.Second})
	route := mustLookup(t, c, "a.pool.example")
	c.MarkDead(&route, 1)
	wantAnswer(t, c, "a.pool.example", "http://10.0.0.1:80")
	wantAnswer(t, c, "b.pool.example", "http://10.0.0.1:80")
	wantMessage(t, messages, "a.pool.example;http://10.0.0.2:80/;1;2")
	if got := s.Strings("SMEMBERS", "dead:a.pool.example"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("dead set: got %v, want [1]", got)
	}
	if ttl := s.Int("TTL", "dead:a.pool.example"); ttl < 10 || ttl > 20 {
		t.Errorf("life of the dead set: got %d s, want 20", ttl)
	}
	if n := s.Int("EXISTS", "dead:*.pool.example"); n != 0 {
		t.Error("the wildcard got a dead set")
	}
	wantSequence(t, monitor, `"MULTI"`, `"SADD" "dead:a.pool.example" "1"`,
		`"EXPIRE" "dead:a.pool.example" "20"`, `"PUBLISH" "dead"`, `"EXEC"`)
}

// wantSequence reads a MONITOR until it has shown the commands one directly after the other.
func wantSequence(t *testing.T, monitor *redistest.Client, commands ...string) {
	t.Helper()
	for next := 0; next < len(commands); {
		line, err := monitor.Receive(5 * time.Second)
		if err != nil {
			t.Fatalf("the server was never told %s: %v", commands[next], err)
		}
		switch text := fmt.Sprint(line); {
		case strings.Contains(text, commands[next]):
			next++
		case next > 0:
			t.Fatalf("after %s came %s, want %s", commands[next-1], text, commands[next])
		}
	}
}

func TestCompat_LoneBackendIsNotMarked(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "10.0.0.1:80")
		c := start(t, Options{Driver: []string{r.driver()}})
		route := mustLookup(t, c, "a.example")
		c.MarkDead(&route, 0)
		wantAnswer(t, c, "a.example", "10.0.0.1:80")
		if n := c.m.marks[resultLocal].Get(); n != 0 {
			t.Errorf("marks: got %d, want none", n)
		}
	})
}

func TestCompat_MarkIsOnlyAnnouncedWhileACheckerLives(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80")
	s.Do("SET", "hchecker_ping", strconv.FormatInt(time.Now().Unix(), 10))
	messages := s.Subscribe("dead")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	wantMessage(t, messages, "a.example;10.0.0.1:80;0;2")
	eventually(t, "the mark is done", func() bool { return c.m.marks[resultPublished].Get() == 1 })
	if n := s.Int("EXISTS", "dead:a.example"); n != 0 {
		t.Error("a dead set was written beside a living checker")
	}
	wantAnswer(t, c, "a.example", "10.0.0.2:80")
}

func TestCompat_CheckerIsAliveForHalfAMinute(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := start(t, Options{Driver: []string{s.URL()}})
	if c.CheckerAlive() {
		t.Error("alive without a sign of life")
	}
	s.Do("SET", "hchecker_ping", strconv.FormatInt(time.Now().Unix()-10, 10))
	eventually(t, "a ping of 10 s ago counts", c.CheckerAlive)
	s.Do("SET", "hchecker_ping", strconv.FormatInt(time.Now().Unix()-32, 10))
	eventually(t, "a ping of 32 s ago does not", func() bool { return !c.CheckerAlive() })
}

func TestCompat_CheckerRevivesAMarkedBackend(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1:80", "10.0.0.2:80")
	c := start(t, Options{Driver: []string{s.URL()}})
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 0)
	wantAnswer(t, c, "a.example", "10.0.0.2:80")
	eventually(t, "the mark is written", func() bool { return s.Int("EXISTS", "dead:a.example") == 1 })
	s.Do("SREM", "dead:a.example", "0")
	begin := time.Now()
	awaitAnswer(t, c, "a.example", "10.0.0.1:80 10.0.0.2:80")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("revived after %v, want about a second after the mark", took)
	}
}
