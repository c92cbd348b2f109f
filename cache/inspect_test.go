package cache

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice/internal/redistest"
)

// inspect looks at a store that must answer.
func inspect(t *testing.T, drivers ...string) *Inspection {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	found, err := Inspect(ctx, Options{Driver: drivers})
	if err != nil {
		t.Fatalf("inspect %v: %v", drivers, err)
	}
	return found
}

func TestInspect_EachDriver(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "10.0.0.1", "10.0.0.2:x")
		r.set("*.pool.example", "pool", "10.0.0.1")
		r.set("*", "all", "10.0.0.1")
		r.set("planb.example:8080", "p", "10.0.0.1")
		r.set("*.*.example", "p", "10.0.0.1")
		r.set("empty.example", "p")
		found := inspect(t, r.driver())
		causes := map[string]string{}
		for _, e := range found.Unusable {
			causes[e.Key] = e.Element + " " + e.Cause
		}
		if found.Frontends != 6 || len(causes) != 3 || found.Note != "" {
			t.Errorf("got %+v", found)
		}
		for key, want := range map[string]string{
			"frontend:a.example": "10.0.0.2:x", "frontend:*.*.example": "Host header", "frontend:empty.example": "no backend",
		} {
			if !strings.Contains(causes[key], want) {
				t.Errorf("%s: got %q, want it to contain %q", key, causes[key], want)
			}
		}
	})
}

func TestInspect_Topologies(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 1)
	s.Master().Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	if f := inspect(t, s.URL()); len(f.Servers) != 1 || f.Servers[0].Address != s.Master().Addr() || f.Frontends != 1 {
		t.Errorf("sentinel: got %+v", f)
	}
	f := inspect(t, s.Redis[1].URL(), s.URL())
	if len(f.Servers) != 2 || f.Servers[0].Role != "replica" || f.Servers[0].Purpose != "reads" || f.Servers[1].Role != "master" {
		t.Errorf("replica and master: got %+v", f)
	}
	c := redistest.StartCluster(t, 3, false)
	for _, h := range clusterHosts(9) {
		c.Do(t, "RPUSH", "frontend:"+h, h, "10.0.0.1")
	}
	if f := inspect(t, c.URL()); len(f.Servers) != 3 || f.Frontends != 9 || len(f.Unusable) != 0 {
		t.Errorf("cluster: got %+v", f)
	}
}

func TestInspect_RestrictedUser(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "edge", "on", ">secret", "~frontend:*", "-@all", "+hello", "+ping", "+client|setname", "+lrange", "+pttl")
	f := inspect(t, strings.Replace(s.URL(), "redis://", "redis://edge:secret@", 1))
	if len(f.Servers) != 1 || f.Servers[0].Tier != "poll" || !strings.Contains(f.Servers[0].Refusal, "NOPERM") ||
		f.Servers[0].Version == "" || !strings.Contains(f.Note, "cannot be listed") {
		t.Errorf("got %+v", f)
	}
}
