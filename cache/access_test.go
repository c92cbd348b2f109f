package cache

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/redistest"
)

// The rights that docs/redis.md prints.
var (
	minimalACL = strings.Fields("on >secret resetkeys %R~frontend:* ~dead:* %R~hchecker_ping %R~tls:* %R~route:* resetchannels &dead -@all " +
		"+hello +ping +client|tracking +client|setname +subscribe +lrange +smembers +pttl +get +lindex +hscan +scan " +
		"+multi +exec +sadd +expire +publish")
	replicaACL = []string{"+info"}
	clusterACL = []string{"+cluster|nodes", "+asking"}
)

// allow makes the user edge on a server, with the minimal rights and further ones.
func allow(s *redistest.Server, more ...string) {
	s.Do(append(append([]string{"ACL", "SETUSER", "edge"}, minimalACL...), more...)...)
}

// asEdge puts the user edge into a driver URL.
func asEdge(url string) string { return strings.Replace(url, "://", "://edge:secret@", 1) }

// refusals returns the commands that a server's ACL refused, apart from those with which the client
// library leaves a connection.
func refusals(s *redistest.Server) []string {
	var refused []string
	entries, _ := s.Do("ACL", "LOG").([]any)
	for _, e := range entries {
		text := fmt.Sprint(e)
		if !strings.Contains(text, "object discard") && !strings.Contains(text, "object unsubscribe") &&
			!strings.Contains(text, "object punsubscribe") && !strings.Contains(text, "object sunsubscribe") {
			refused = append(refused, text)
		}
	}
	return refused
}

// worksAsEdge sees that reading, changes and marks work, and that nothing was refused.
func worksAsEdge(t *testing.T, c *Cache, master *redistest.Server, all ...*redistest.Server) {
	t.Helper()
	master.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	master.Do("RPUSH", "frontend:a.example", "10.0.0.3")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2 10.0.0.3")
	route := mustLookup(t, c, "a.example")
	c.MarkDead(&route, 2)
	eventually(t, "the mark is written", func() bool { return master.Int("EXISTS", "dead:a.example") == 1 })
	if c.m.tiers[tierBroadcast].Get() != 1 {
		t.Error("the tier is not bcast")
	}
	for _, s := range append(all, master) {
		if refused := refusals(s); len(refused) > 0 {
			t.Errorf("%s refused: %v", s.Addr(), refused)
		}
	}
}

func TestAccess_MinimalRights(t *testing.T) {
	t.Parallel()
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		allow(s)
		worksAsEdge(t, start(t, Options{Driver: []string{asEdge(s.URL())}}), s)
		if f := inspect(t, asEdge(s.URL())); f.Frontends != 1 || f.Note != "" {
			t.Errorf("inspection: got %+v", f)
		}
	})
	t.Run("replica and master", func(t *testing.T) {
		t.Parallel()
		master := redistest.Start(t)
		replica := redistest.StartReplica(t, master)
		allow(master)
		allow(replica, replicaACL...)
		c := start(t, Options{Driver: []string{asEdge(replica.URL()), asEdge(master.URL())}})
		worksAsEdge(t, c, master, replica)
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartSentinels(t, 0)
		allow(s.Redis[0], replicaACL...)
		for _, one := range s.All {
			one.Do("ACL", "SETUSER", "watcher", "on", ">sesame", "resetchannels", "&+switch-master", "-@all", "+hello", "+ping",
				"+client|setname", "+sentinel|master", "+sentinel|get-master-addr-by-name", "+subscribe")
		}
		c := start(t, Options{Driver: []string{asEdge(s.URL()) + "?sentinelUser=watcher&sentinelPassword=sesame"}})
		worksAsEdge(t, c, s.Redis[0])
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartCluster(t, 3, false)
		for _, n := range s.Nodes {
			allow(n, clusterACL...)
		}
		c := start(t, Options{Driver: []string{asEdge(s.URL())}})
		s.Do(t, "RPUSH", "frontend:a.example", "a", "10.0.0.1", "10.0.0.2")
		awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
		route := mustLookup(t, c, "a.example")
		c.MarkDead(&route, 1)
		eventually(t, "the mark is written", func() bool { return s.Do(t, "EXISTS", "dead:a.example") == int64(1) })
		for _, n := range s.Nodes {
			if refused := refusals(n); len(refused) > 0 {
				t.Errorf("%s refused: %v", n.Addr(), refused)
			}
		}
	})
}

func TestAccess_TLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	s, files := redistest.StartTLS(t, "--requirepass", "hush")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	secure := fmt.Sprintf("rediss://:hush@127.0.0.1:%d", s.TLSPort)
	c := start(t, Options{Driver: []string{secure + files.Query()}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	s.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	s.Restart()
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.3")
	awaitAnswer(t, c, "a.example", "10.0.0.3")
	for query, want := range map[string]string{
		"":                "certificate signed by unknown authority",
		"?ca=" + files.CA: "connect to", // the server hangs up, with or without an alert
		strings.Replace(files.Query(), files.CA, redistest.NewTLS(t).CA, 1): "certificate signed by unknown authority",
	} {
		if _, err := Inspect(t.Context(), Options{Driver: []string{secure + query}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", query, err, want)
		}
	}
	byName := strings.Replace(secure, "127.0.0.1", "localhost", 1)
	if _, err := Inspect(t.Context(), Options{Driver: []string{byName + files.Query()}}); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("a name that the certificate has not: got %v", err)
	}
}

func TestAccess_ClusterOverTLS(t *testing.T) {
	t.Parallel()
	files := redistest.NewTLS(t)
	s := redistest.StartCluster(t, 3, true, files.Args("--tls-cluster", "yes", "--tls-replication", "yes")...)
	hosts := clusterHosts(6)
	for _, h := range hosts {
		s.Do(t, "RPUSH", "frontend:"+h, h, "10.0.0.1")
	}
	c := start(t, Options{Driver: []string{s.SecureURL() + files.Query()}, MaxMissRate: -1})
	for _, h := range hosts {
		wantAnswer(t, c, h, "10.0.0.1")
		s.Do(t, "RPUSH", "frontend:"+h, "10.0.0.2")
		awaitAnswer(t, c, h, "10.0.0.1 10.0.0.2")
	}
}

func TestAccess_SentinelOverTLS(t *testing.T) {
	t.Parallel()
	files := redistest.NewTLS(t)
	s := redistest.StartSentinels(t, 1, files.Args("--tls-replication", "yes")...)
	s.Master().Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.SecureURL() + files.Query()}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	s.Master().Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
}

func TestAccess_UnixSocketPasswordDatabaseAndPrefix(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "p:w")
	conn := s.Connect()
	for _, command := range [][]string{{"SELECT", "3"}, {"RPUSH", "px:frontend:a.example", "a", "10.0.0.1"}} {
		if _, err := conn.Do(command...); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, Options{Driver: []string{fmt.Sprintf("redis://:p%%3Aw@127.0.0.1:%d/3#px:", s.Port)}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	open := redistest.Start(t)
	open.Do("RPUSH", "px:frontend:a.example", "a", "10.0.0.2")
	c = start(t, Options{Driver: []string{"unix:" + open.Socket() + "#px:"}})
	wantAnswer(t, c, "a.example", "10.0.0.2")
	open.Do("RPUSH", "px:frontend:a.example", "10.0.0.3")
	awaitAnswer(t, c, "a.example", "10.0.0.2 10.0.0.3")
	if f := inspect(t, "unix:"+open.Socket()+"#px:"); f.Frontends != 1 || len(f.Unusable) != 0 {
		t.Errorf("inspection: got %+v", f)
	}
}
