package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// storyClients is how many clients make requests at the same time.
	storyClients = 32
	// storyDelay is how long the application takes for one of them, so that every moment finds
	// some at work.
	storyDelay = 20 * time.Millisecond
)

// traffic is clients that request some hosts by turns, without a pause.
type traffic struct {
	visitor *visitor
	halt    context.CancelFunc
	clients sync.WaitGroup

	mu     sync.Mutex
	visits []visit
}

// startTraffic runs until end, or until ctx ends.
func startTraffic(ctx context.Context, visitor *visitor, hosts []string) *traffic {
	ctx, halt := context.WithCancel(ctx)
	f := &traffic{visitor: visitor, halt: halt}
	for i := range storyClients {
		f.clients.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				v := visitor.get(fmt.Sprintf("https://%s/work?delay=%g", hosts[n%len(hosts)], storyDelay.Seconds()))
				f.mu.Lock()
				f.visits = append(f.visits, v)
				f.mu.Unlock()
			}
		})
	}
	return f
}

// since returns the visits from the given number on.
func (f *traffic) since(n int) []visit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]visit(nil), f.visits[n:]...)
}

// count is the number of visits so far.
func (f *traffic) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.visits)
}

// end lets each client finish its request and returns all visits.
func (f *traffic) end() []visit {
	f.halt()
	f.clients.Wait()
	return f.since(0)
}

// answered tells whether one of the visits was answered in the given way.
func answered(visits []visit, by func(visit) bool) bool { return slices.ContainsFunc(visits, by) }

func byMachine(name string) func(visit) bool {
	return func(v visit) bool { return v.saw.Machine == name }
}

// lose gives the pool a second backend and kills it while it works. Nobody who waits for an answer
// notices; the store and those who listen to it learn of it; the machine comes back by itself.
func (s *story) lose() {
	s.push(storyPool, s.newMachine.url())
	f := startTraffic(s.t.Context(), s.visitor, storyAccounts)
	s.within(patience, "both machines at work", func() bool {
		visits := f.since(0)
		return answered(visits, byMachine("old")) && answered(visits, byMachine("new")) && len(visits) > 2*storyClients
	})
	s.newMachine.run.kill()
	killed := f.count()
	host := s.marked()
	ends := time.Now().Add(deadTTL*time.Second - 100*time.Millisecond)
	s.within(patience, "traffic after the loss", func() bool { return f.count() > killed+4*storyClients })
	s.echo("one machine less")

	s.newMachine.start(s.life)
	s.newMachine.awaitAnswer(s.t)
	back := f.count()
	s.within(patience, host+" on the machine again", func() bool {
		return answered(f.since(back), func(v visit) bool { return v.host == host && v.saw.Machine == "new" })
	})
	if early := time.Until(ends); early > 0 {
		s.t.Errorf("%s was back on the machine at least %v before the end of its mark", host, early)
	}
	s.noFailures(f.end())
	if s.metric(`sluice_retries_total{cause="backend_reset"}`) == 0 {
		s.t.Error("no request was under way on the lost machine: the step has proved nothing")
	}
	for _, host := range storyMovers {
		s.open(host)
	}
}

// marked waits until the lost machine is marked in the master, as an external checker reads it, and
// returns the host of the mark. While the machine is away each end of a mark makes a new one, so one
// that ended first is no fault.
func (s *story) marked() (host string) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case message := <-s.announced:
			host, rest, _ := strings.Cut(message, ";")
			if want := s.newMachine.url() + ";1;2"; !slices.Contains(storyAccounts, host) || rest != want {
				s.t.Fatalf("announced %q, want an account and %q", message, want)
			}
			ids, ttl := s.master.Strings("SMEMBERS", "dead:"+host), s.master.Int("PTTL", "dead:"+host)
			if len(ids) == 0 {
				continue
			}
			if limit := int64(deadTTL * time.Second / time.Millisecond); !slices.Equal(ids, []string{"1"}) || ttl <= 0 || ttl > limit {
				s.t.Fatalf("dead:%s holds %q for %d ms, want 1 for at most %d ms", host, ids, ttl, limit)
			}
			return host
		case <-timeout:
			s.t.Fatalf("no mark within %v", patience)
		}
	}
}

// noFailures lets pass, beyond noFaults, answers that were cut: they had begun when the machine
// was lost.
func (s *story) noFailures(visits []visit) {
	s.t.Helper()
	cut := 0
	for _, v := range visits {
		if v.status == http.StatusOK && v.bytes < 0 {
			cut++
		} else if fault := v.fault(); fault != "" {
			s.t.Error(fault)
		}
	}
	s.t.Logf("%d requests, %d answers cut", len(visits), cut)
}

// change puts the application of the old machine into the pool and takes nginx out of it.
func (s *story) change() {
	direct := func(v visit) bool { return v.saw.Machine == "old" && !v.byNginx() }
	f := startTraffic(s.t.Context(), s.visitor, storyAccounts)
	s.within(patience, "nginx at work", func() bool { return answered(f.since(0), visit.byNginx) })
	n := f.count()
	s.push(storyPool, s.oldMachine.url())
	s.within(patience, "the new backend at work", func() bool { return answered(f.since(n), direct) })
	if removed := s.master.Int("LREM", storyPool, "0", s.nginx); removed != 1 {
		s.t.Fatalf("LREM removed %d backends, want 1", removed)
	}
	s.within(patience, "nginx out of work", func() bool {
		n := f.count()
		s.within(patience, "more traffic", func() bool { return f.count() > n+2*storyClients })
		return !answered(f.since(n), visit.byNginx)
	})
	visits := f.end()
	s.noFaults(visits)
	s.echo("routes have changed")
}
