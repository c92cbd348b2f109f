package cache

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// wantTier checks what the metrics and the log say about the tier.
func wantTier(t *testing.T, set *metrics.Set, log *logtest.Buffer, want tier) {
	t.Helper()
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, tier := range []tier{tierBroadcast, tierOptIn, tierPoll} {
		value := " 0"
		if tier == want {
			value = " 1"
		}
		if line := `sluice_store_tier{tier="` + tier.String() + `"}` + value; !strings.Contains(text.String(), line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
	if n := strings.Count(log.String(), "tier="+want.String()); n != 1 {
		t.Errorf("the tier was logged %d times, want once:\n%s", n, log.String())
	}
}

func TestTier_FallsToWhatTheServerAllows(t *testing.T) {
	t.Parallel()
	refuseBroadcast := func(command string) string {
		if strings.Contains(command, " BCAST ") {
			return "ERR syntax error"
		}
		return ""
	}
	refuseTracking := func(command string) string {
		if strings.HasPrefix(command, "CLIENT TRACKING ON") {
			return "ERR unknown subcommand 'TRACKING'"
		}
		return ""
	}
	oldProtocol := func(command string) string {
		if strings.HasPrefix(command, "HELLO 3") {
			return "NOPROTO unsupported protocol version"
		}
		return ""
	}
	older := func(command string) string {
		if strings.HasPrefix(command, "HELLO") {
			return "ERR unknown command 'HELLO', with args beginning with:"
		}
		return ""
	}
	tests := map[string]struct {
		refuse func(command string) string
		want   tier
	}{
		"broadcast refused": {refuseBroadcast, tierOptIn},
		"tracking refused":  {refuseTracking, tierPoll},
		"RESP2 only":        {oldProtocol, tierPoll},
		"HELLO unknown":     {older, tierPoll},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			address := redistest.StartGate(t, s, tt.refuse)
			followsChanges(t, s, "redis://"+address, tt.want)
		})
	}
}

func TestTier_ACLRefusesTracking(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "edge", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")
	followsChanges(t, s, strings.Replace(s.URL(), "redis://", "redis://edge:secret@", 1), tierPoll)
}

// Redis puts a message that a transaction publishes into the middle of the answer to its EXEC, where
// the same connection listens (RESP3). The client library then takes each answer for that of the
// command before, or ends the process. So the announcements of marks need a connection of their own.
func TestTier_MarksOfOurOwnLeaveTheAnswersInOrder(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "edge", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")
	for i := range 20 {
		s.Do("RPUSH", fmt.Sprintf("frontend:h%d.example", i), "h", fmt.Sprintf("10.0.0.%d", i), "10.0.1.1")
	}
	c := start(t, Options{Driver: []string{strings.Replace(s.URL(), "redis://", "redis://edge:secret@", 1)}})
	eventually(t, "the edge listens", func() bool {
		n, _ := s.Do("PUBSUB", "NUMSUB", "dead").([]any)
		return len(n) == 2 && n[1] == int64(1)
	})
	for i := range 20 {
		host := fmt.Sprintf("h%d.example", i)
		route := mustLookup(t, c, host)
		c.MarkDead(&route, 1)
		eventually(t, "the mark is written", func() bool { return s.Do("EXISTS", "dead:"+host) == int64(1) })
		wantAnswer(t, c, host, fmt.Sprintf("10.0.0.%d", i))
	}
}

// followsChanges sees that changes of every kind arrive, in the time that the tier promises, and
// that they still do after the connections were lost.
func followsChanges(t *testing.T, s *redistest.Server, driver string, want tier) {
	t.Helper()
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.8")
	set := metrics.NewSet()
	var log logtest.Buffer
	c := start(t, Options{
		Driver: []string{driver}, Metrics: set, Log: log.Logger(), MaxMissRate: -1, NegativeTTL: time.Hour,
	})
	for round := range 2 {
		wantAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
		wantAnswer(t, c, "x.pool.example", "10.0.0.8")
		wantAnswer(t, c, "b.example", "unknown")
		begin := time.Now()
		s.Do("RPUSH", "frontend:a.example", "10.0.0.3")
		awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2 10.0.0.3")
		s.Do("RPUSH", "frontend:*.pool.example", "10.0.0.9")
		s.Do("RPUSH", "frontend:b.example", "b", "10.0.0.4")
		awaitAnswer(t, c, "x.pool.example", "10.0.0.8 10.0.0.9")
		awaitAnswer(t, c, "b.example", "10.0.0.4")
		t.Logf("%v: changes arrived after %v", want, time.Since(begin))

		begin = time.Now()
		s.Do("SADD", "dead:a.example", "1")
		s.Do("PUBLISH", "dead", "a.example;10.0.0.2;1;3")
		awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.3")
		t.Logf("%v: a mark of another edge arrived after %v", want, time.Since(begin))

		s.Do("CLIENT", "KILL", "TYPE", "pubsub")
		s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		if round == 1 {
			break
		}
		s.Do("DEL", "dead:a.example", "frontend:b.example")
		s.Do("RPOP", "frontend:a.example")
		s.Do("RPOP", "frontend:*.pool.example")
		awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
		awaitAnswer(t, c, "x.pool.example", "10.0.0.8")
		awaitAnswer(t, c, "b.example", "unknown")
	}
	wantTier(t, set, &log, want)
}
