package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/redistest"
)

const (
	// soakTime is how long TestSoak runs unless SOAK says otherwise.
	soakTime = 5 * time.Second
	// soakNames is how many names there are of each kind.
	soakNames = 25
	// soakBackends is the length of the lists of hosts whose dead sets are compared.
	soakBackends = 4
	// settleTime is what sluice promises after the last write; settleSlack is how much of it a busy
	// machine may take when nothing failed, soakSlack when something did.
	settleTime  = 100 * time.Millisecond
	settleSlack = 5
	soakSlack   = 50
)

// soak writes to a server in all ways that tools do, while it and its connections fail, and then
// holds the cache against what the server says.
type soak struct {
	t      *testing.T
	server *redistest.Server
	c      *Cache
	rng    *rand.Rand // of the test's goroutine
	keys   []string   // names that get lists, wildcards included
	hosts  []string   // names that are asked for
	dead   []string   // names whose list never changes, and whose dead sets do

	writes, lookups, failures atomic.Int64
}

// TestSoak is TestStress for as long as SOAK says (a duration), by default for a few seconds. SEED
// repeats a run's choices.
func TestSoak(t *testing.T) {
	t.Parallel()
	length, seed := soakTime, rand.Uint64()
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d", seed)
	s := newSoak(t, seed)
	stop := s.startReaders()
	faults := []soakFault{
		{"none", settleSlack, func() { s.pause(300) }},
		{"connections killed", soakSlack, s.killConnections},
		{"server killed, data lost", soakSlack, s.killServer},
		{"server frozen", soakSlack, s.freeze},
		{"edge locked out", soakSlack, s.lockOut},
	}
	settled := map[string][]settling{}
	begin := time.Now()
	round := 0
	for ; time.Since(begin) < length || round < len(faults); round++ {
		fault := faults[round%len(faults)]
		s.round(fault.run)
		took := s.compare(fmt.Sprintf("round %d (%s)", round, fault.name), time.Duration(fault.slack)*settleTime)
		settled[fault.name] = append(settled[fault.name], took)
		if t.Failed() {
			break
		}
		if (round+1)%100 == 0 {
			t.Logf("%v: round %d, %d writes, %d lookups", time.Since(begin).Round(time.Second), round+1, s.writes.Load(), s.lookups.Load())
		}
	}
	stop()
	t.Logf("%d rounds, %d writes, %d lookups, %d of them without an answer", round, s.writes.Load(), s.lookups.Load(), s.failures.Load())
	t.Logf("until every name answers as the server says, after the last write; with removals, which have %v more:", DefaultTornWriteGrace)
	for _, fault := range faults {
		t.Logf("%-24s %s; %s", fault.name, spread(settled[fault.name], func(s settling) time.Duration { return s.kept }),
			spread(settled[fault.name], func(s settling) time.Duration { return s.all }))
	}
}

// settling is how long after the last write all names answered as the server says, but for removals
// within their grace, and with these.
type settling struct{ kept, all time.Duration }

// spread describes one of the two times.
func spread(list []settling, which func(settling) time.Duration) string {
	if len(list) == 0 {
		return "never happened"
	}
	took := make([]time.Duration, len(list))
	for i := range list {
		took[i] = which(list[i])
	}
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v", at(0.5), at(0.9), at(0.99), at(1))
}

// soakFault is one thing that happens in a round, and how many times settleTime the names may take
// after it.
type soakFault struct {
	name  string
	slack int
	run   func()
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{t: t, server: redistest.Start(t), rng: rand.New(rand.NewPCG(seed, 1))}
	s.keys = []string{"*.one.test", "*.two.one.test", "*"}
	for i := range soakNames {
		s.keys = append(s.keys, fmt.Sprintf("h%d.exact.test", i), fmt.Sprintf("h%d.two.one.test", i))
		s.hosts = append(s.hosts, fmt.Sprintf("h%d.exact.test", i), fmt.Sprintf("h%d.one.test", i),
			fmt.Sprintf("h%d.two.one.test", i), fmt.Sprintf("h%d.none.example", i))
		s.dead = append(s.dead, fmt.Sprintf("d%d.dead.test", i))
	}
	s.fillDead()
	s.c = start(t, Options{Driver: []string{s.server.URL()}, MaxMissRate: -1, NegativeTTL: time.Hour})
	return s
}

// fillDead writes the lists that never change, again after they were lost.
func (s *soak) fillDead() {
	for _, host := range s.dead {
		key := frontendKey + host
		s.server.Do("EVAL", "redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],unpack(ARGV))", "1", key,
			host, "b0", "b1", "b2", "b3")
	}
}

// startReaders looks names up from many sides until stop is called. Whatever happens, an answer must
// be one that the list which it names had at some time.
func (s *soak) startReaders() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				s.lookup(s.hosts[rand.IntN(len(s.hosts))])
				s.lookup(s.dead[rand.IntN(len(s.dead))])
				if rand.IntN(20) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	return func() {
		cancel()
		readers.Wait()
	}
}

func (s *soak) lookup(host string) {
	route, err := s.c.Lookup([]byte(host), testClient)
	s.lookups.Add(1)
	if err == ErrUnavailable {
		s.failures.Add(1)
	}
	if err != nil || strings.HasSuffix(host, ".dead.test") {
		return
	}
	f := route.Frontend()
	for i := range f.Backends {
		// The identifier is among the backends when two writers met.
		if url := f.Backends[i].URL; url != f.Key && !strings.HasPrefix(url, soakOwner(f.Key)) {
			s.t.Errorf("%s: the list of %s holds %s", host, f.Key, f.Backends[i].URL)
		}
	}
	if len(f.Backends) > 1 && rand.IntN(50) == 0 {
		s.c.MarkDead(&route, rand.IntN(len(f.Backends)))
	}
}

// soakOwner is how the elements of a key's list begin.
func soakOwner(key string) string { return strings.ReplaceAll(key, "*", "any") + ":80" }

// round writes from two sides while the fault happens.
func (s *soak) round(fault func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 2 {
		rng := rand.New(rand.NewPCG(s.rng.Uint64(), 2))
		writers.Go(func() {
			w := soakWriter{s: s, rng: rng}
			defer w.disconnect()
			for ctx.Err() == nil {
				w.write()
			}
		})
	}
	fault()
	s.pause(100)
	cancel()
	writers.Wait()
}

// soakWriter writes on a connection of its own, which breaks when the faults break it.
type soakWriter struct {
	s    *soak
	rng  *rand.Rand
	conn *redistest.Client
}

func (w *soakWriter) disconnect() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// do runs one command, or not: the server may be away.
func (w *soakWriter) do(args ...string) {
	var err error
	if w.conn == nil {
		w.conn, err = redistest.Dial("tcp", w.s.server.Addr())
	}
	if err == nil {
		_, err = w.conn.Do(args...)
	}
	if err != nil && !errors.As(err, new(redistest.Error)) {
		w.disconnect()
		time.Sleep(time.Millisecond)
		return
	}
	w.s.writes.Add(1)
}

// write changes something in one of the ways that tools use.
func (w *soakWriter) write() {
	rng, do := w.rng, w.do
	name := w.s.keys[rng.IntN(len(w.s.keys))]
	key := frontendKey + name
	element := func() string { return fmt.Sprintf("%s/%d", soakOwner(name), rng.IntN(1000)) }
	switch n := rng.IntN(100); {
	case n < 20: // as tools do that know no transactions
		do("DEL", key)
		do("RPUSH", key, name)
		do("RPUSH", key, element())
		do("RPUSH", key, element())
	case n < 30:
		do("RPUSH", key, element())
	case n < 40:
		do("LREM", key, "1", element())
		do("EVAL", "local v = redis.call('LINDEX',KEYS[1],2) if v then redis.call('LREM',KEYS[1],1,v) end", "1", key)
	case n < 50:
		do("LSET", key, "1", element())
	case n < 60:
		do("EVAL", "redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],unpack(ARGV))", "1", key, name, element(), element())
	case n < 68:
		do("EVAL", "redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],unpack(ARGV))", "1", "new:"+name, name, element())
		do("RENAME", "new:"+name, key)
	case n < 74:
		do("PEXPIRE", key, strconv.Itoa(1+rng.IntN(300)))
	case n < 78:
		do("DEL", key)
	case n < 99:
		w.writeDead()
	case rng.IntN(10) == 0:
		do("FLUSHALL")
	}
}

// addDead adds to a dead set as long as its list is there. An id that came while the catch-all
// answered for the host would mean a backend of that list, and go on meaning it.
const addDead = `if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('SADD', KEYS[1], ARGV[1]) end`

// writeDead changes a dead set as a checker or another edge does.
func (w *soakWriter) writeDead() {
	rng, do := w.rng, w.do
	host := w.s.dead[rng.IntN(len(w.s.dead))]
	id := strconv.Itoa(rng.IntN(soakBackends))
	switch rng.IntN(4) {
	case 0:
		do("SREM", deadKey+host, id)
	case 1:
		do("EVAL", addDead, "2", deadKey+host, frontendKey+host, id)
		do("PEXPIRE", deadKey+host, strconv.Itoa(1+rng.IntN(300)))
	default:
		do("EVAL", addDead, "2", deadKey+host, frontendKey+host, id)
		do("EXPIRE", deadKey+host, "30")
	}
}

func (s *soak) pause(milliseconds int) {
	time.Sleep(time.Duration(1+s.rng.IntN(milliseconds)) * time.Millisecond)
}

// The faults.

func (s *soak) killConnections() {
	for range 3 {
		s.pause(50)
		s.server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		s.pause(50)
		s.server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	}
}

func (s *soak) killServer() {
	s.pause(100)
	s.server.Kill()
	s.pause(100)
	s.server.Restart()
	s.fillDead()
}

func (s *soak) freeze() {
	s.pause(50)
	s.server.Stop()
	s.pause(1200)
	s.server.Continue()
}

// lockOut has the edge refused for a while, in which changes are announced to nobody.
func (s *soak) lockOut() {
	s.server.Do("CONFIG", "SET", "requirepass", "secret")
	s.server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	s.server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	s.pause(300)
	s.server.Do("CONFIG", "SET", "requirepass", "")
}

// compare ends all lives that the clock would end, waits for the watch, and returns how long after
// the last write each name answered as the server says, which may be as long as limit, and for
// removals the grace more.
func (s *soak) compare(round string, limit time.Duration) (took settling) {
	s.t.Helper()
	s.fillDead()
	for _, name := range s.keys {
		s.server.Do("PERSIST", frontendKey+name)
	}
	for _, host := range s.dead {
		s.server.Do("PERSIST", deadKey+host)
	}
	eventually(s.t, "the watch is up", func() bool { return s.c.epoch.Load()&1 == 1 })
	begin := time.Now()
	want := map[string]string{}
	for _, host := range s.hosts {
		want[host] = s.truth(host)
	}
	for _, host := range s.dead {
		want[host] = s.truthOfDead(host)
	}
	await := func(limit time.Duration, enough func(host string) bool) time.Duration {
		for host, answer := range want {
			for {
				got := s.says(host)
				if got == answer || enough(host) {
					break
				}
				if time.Since(begin) > limit {
					s.t.Errorf("%s: %s: got %q, the server says %q; %v after the last write", round, host, got, answer, limit)
					return time.Since(begin)
				}
				time.Sleep(time.Millisecond)
			}
		}
		return time.Since(begin)
	}
	if took.kept = await(limit, s.hasGrace); !s.t.Failed() {
		took.all = await(limit+DefaultTornWriteGrace, func(string) bool { return false })
	}
	return took
}

// hasGrace tells whether what a host answers is a list that was emptied or removed just now.
func (s *soak) hasGrace(host string) bool {
	e := s.c.table.findString(host)
	if e == nil {
		return false
	}
	v := e.value.Load()
	if v.frontend == nil && v.target != nil {
		v = v.target.value.Load()
	}
	// Of values that are not outdated, only these remember a push.
	return v.epoch != 0 && v.pushed != 0
}

// truth is what the server says about a host: the first list in the order of the lookup.
func (s *soak) truth(host string) string {
	for _, name := range append([]string{host}, wildcards(host)...) {
		reply, ok := s.server.Do("LRANGE", frontendKey+name, "0", "-1").([]any)
		if !ok || len(reply) == 0 {
			continue
		}
		words := []string{name}
		for _, element := range reply[1:] {
			words = append(words, fmt.Sprint(element))
		}
		return strings.Join(words, " ")
	}
	return ErrUnknownHost.Error()
}

// truthOfDead is which backends of a host are alive.
func (s *soak) truthOfDead(host string) string {
	reply, _ := s.server.Do("SMEMBERS", deadKey+host).([]any)
	var live []string
	for i := range soakBackends {
		if !slices.Contains(reply, any(strconv.Itoa(i))) {
			live = append(live, fmt.Sprintf("b%d", i))
		}
	}
	return strings.Join(live, " ")
}

// says is what the cache says, in the same words.
func (s *soak) says(host string) string {
	if strings.HasSuffix(host, ".dead.test") {
		return answer(s.c, host)
	}
	r, err := s.c.Lookup([]byte(host), testClient)
	if err != nil {
		return err.Error()
	}
	words := []string{r.Frontend().Key}
	for _, b := range r.Frontend().Backends {
		words = append(words, b.URL)
	}
	return strings.Join(words, " ")
}
