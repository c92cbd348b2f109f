package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/redistest"
)

// calls is how often a server has run a command since its start.
func (s *story) calls(server *redistest.Server, command string) int {
	s.t.Helper()
	for line := range strings.Lines(server.Text("INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			number, _, _ := strings.Cut(rest, ",")
			n, err := strconv.Atoi(number)
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// commands sees that lists are read from the replica alone, and that marks went to the master. A
// replica counts what it replicates as well, but it refuses writes of others.
func (s *story) commands() {
	if n := s.calls(s.replica, "lrange"); n == 0 {
		s.t.Error("no list was read from the replica")
	}
	if n := s.calls(s.master, "lrange"); n != 0 {
		s.t.Errorf("%d lists were read from the master", n)
	}
	for _, command := range []string{"sadd", "expire", "publish"} {
		if s.calls(s.master, command) == 0 {
			s.t.Errorf("the master has run no %s: nothing was marked there", command)
		}
	}
}

// loseReplica kills the replica while everybody works: known accounts go on, and what the master
// learns counts at once. When it is back it is read again.
func (s *story) loseReplica() {
	f := startTraffic(s.t.Context(), s.visitor, storyAccounts)
	s.within(patience, "traffic", func() bool { return f.count() > storyClients })
	s.replica.Kill()
	n := f.count()
	s.within(patience, "traffic without the replica", func() bool { return f.count() > n+4*storyClients })
	s.push("frontend:late.app.example", "late", s.newMachine.url())
	s.within(patience, "an account that only the master knows", func() bool {
		return s.open("late.app.example").saw.Machine == "new"
	})
	s.replica.Restart()
	s.within(patience, "reads on the replica", func() bool { return s.calls(s.replica, "lrange") > 0 })
	s.noFaults(f.end())
	s.echo("the store was away")
}

// metrics holds the figures against what the clients saw.
func (s *story) metrics() {
	for class := 1; class <= 5; class++ {
		seen := 0
		for _, v := range s.visitor.all() {
			if v.status/100 == class {
				seen++
			}
		}
		name := fmt.Sprintf(`sluice_requests_total{status="%dxx"}`, class)
		s.within(time.Second, name, func() bool { return s.metric(name) == float64(seen) })
	}
	for name, least := range map[string]float64{
		"sluice_tunnels_total":                                1,
		"sluice_backend_marks_total":                          1,
		`sluice_route_marks_total{result="written"}`:          1,
		`sluice_errors_total{cause="no_backend"}`:             1,
		`sluice_errors_total{cause="unknown_host"}`:           1,
		"sluice_route_hits_total":                             1,
		"sluice_route_misses_total":                           1,
		"sluice_route_invalidations_total":                    float64(len(storyMovers)),
		"sluice_store_watch_up":                               1,
		"sluice_store_outage_seconds_total":                   1e-6,
		`sluice_attempt_errors_total{cause="connect_failed"}`: 1,
	} {
		if got := s.metric(name); got < least {
			s.t.Errorf("%s = %g, want at least %g", name, got, least)
		}
	}
	if got := s.metric("sluice_tunnels"); got != 0 {
		s.t.Errorf("sluice_tunnels = %g after the end of the only one", got)
	}
	if got := s.edge.status(s.edge.admin + "/readyz"); got != http.StatusOK {
		s.t.Errorf("/readyz = %d, want 200", got)
	}
}

// metric reads a series of the edge, which must be there.
func (s *story) metric(name string) float64 {
	s.t.Helper()
	value, ok := s.edge.metric(name)
	if !ok {
		s.t.Fatalf("/metrics has no series %s", name)
	}
	return value
}
