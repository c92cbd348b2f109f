package redistest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// MasterName is what Sentinels call their master.
const MasterName = "main"

// Sentinels are three Sentinels that watch a master with replicas. They find it down after half a
// second and agree by two.
type Sentinels struct {
	// All are the Sentinels. They are Redis servers in a mode of their own: Kill, Restart, Stop and
	// Do work.
	All []*Server
	// Redis are the master, first at the start, and its replicas.
	Redis []*Server
}

// StartSentinels runs a master, its replicas and three Sentinels until the test ends, and returns
// once each Sentinel knows all the others. args are for the servers, not for the Sentinels.
func StartSentinels(t testing.TB, replicas int, args ...string) *Sentinels {
	t.Helper()
	master := Start(t, args...)
	s := &Sentinels{Redis: []*Server{master}}
	for range replicas {
		s.Redis = append(s.Redis, StartReplica(t, master, args...))
	}
	for range 3 {
		s.All = append(s.All, startSentinel(t, master, args))
	}
	if err := poll(func() error { return s.settled(replicas) }); err != nil {
		t.Fatalf("redistest: start sentinels: %v", err)
	}
	return s
}

// startSentinel runs one Sentinel; of the servers' settings it takes those of TLS. Its configuration
// is a file, because it rewrites it.
func startSentinel(t testing.TB, master *Server, args []string) *Server {
	t.Helper()
	s, err := launch(func(s *Server) error {
		for i := 0; i+1 < len(args); i += 2 {
			if strings.HasPrefix(args[i], "--tls-") {
				s.args = append(s.args, args[i], args[i+1])
			}
		}
		s.sentinel = filepath.Join(s.dir, "sentinel.conf")
		config := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 2\nsentinel down-after-milliseconds %[1]s 500\n"+
			"sentinel failover-timeout %[1]s 1500\n", MasterName, master.linkPort())
		if password := master.password; password != "" {
			config += fmt.Sprintf("sentinel auth-pass %s %s\n", MasterName, password)
		}
		return os.WriteFile(s.sentinel, []byte(config), 0o600)
	})
	if err != nil {
		t.Fatalf("redistest: start sentinel: %v", err)
	}
	s.t = t
	t.Cleanup(s.Close)
	return s
}

// settled tells why the Sentinels could not perform a failover yet.
func (s *Sentinels) settled(replicas int) error {
	for _, one := range s.All {
		state, err := one.masterState()
		if err != nil {
			return err
		}
		others, slaves, flags := state["num-other-sentinels"], state["num-slaves"], state["flags"]
		if others != "2" || slaves != strconv.Itoa(replicas) || flags != "master" {
			return fmt.Errorf("a sentinel sees %s other sentinels, %s replicas, a master that is %s", others, slaves, flags)
		}
	}
	return nil
}

// masterState is what a Sentinel says about the master.
func (s *Server) masterState() (map[string]string, error) {
	reply, err := s.Try("SENTINEL", "MASTER", MasterName)
	if err != nil {
		return nil, err
	}
	values, _ := reply.([]any)
	state := map[string]string{}
	for i := 0; i+1 < len(values); i += 2 {
		state[fmt.Sprint(values[i])] = fmt.Sprint(values[i+1])
	}
	return state, nil
}

// Master is the server that a majority of Sentinels calls the master and that is one, nil while
// there is none.
func (s *Sentinels) Master() *Server {
	votes := map[string]int{}
	for _, one := range s.All {
		if one.silent() {
			continue
		}
		if state, err := one.masterState(); err == nil {
			votes[state["port"]]++
		}
	}
	for _, r := range s.Redis {
		if r.silent() {
			continue
		}
		info, err := r.Try("INFO", "replication")
		if err == nil && votes[strconv.Itoa(r.linkPort())] >= 2 && strings.Contains(fmt.Sprint(info), "role:master") {
			return r
		}
	}
	return nil
}

// AwaitMaster waits until another server than old is the master.
func (s *Sentinels) AwaitMaster(t testing.TB, old *Server) *Server {
	t.Helper()
	var master *Server
	if err := poll(func() error {
		if master = s.Master(); master == nil || master == old {
			return errors.New("no other server became master")
		}
		return nil
	}); err != nil {
		t.Fatalf("redistest: await failover: %v", err)
	}
	return master
}

// URL is the driver URL of the master behind the Sentinels.
func (s *Sentinels) URL() string {
	return urlOf("redis+sentinel", s.Redis[0].password, s.All, (*Server).Addr) + "/" + MasterName
}

// SecureURL is URL with TLS.
func (s *Sentinels) SecureURL() string {
	return urlOf("rediss+sentinel", s.Redis[0].password, s.All, (*Server).SecureAddr) + "/" + MasterName
}

// urlOf makes a driver URL of several servers.
func urlOf(scheme, password string, servers []*Server, address func(*Server) string) string {
	hosts := make([]string, len(servers))
	for i, s := range servers {
		hosts[i] = address(s)
	}
	user := ""
	if password != "" {
		user = ":" + password + "@"
	}
	return scheme + "://" + user + strings.Join(hosts, ",")
}
