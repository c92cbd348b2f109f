package cache

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/certtest"
	"sluice/internal/redistest"
)

// acmeACL is what docs/acme.md says that a user needs besides.
var acmeACL = strings.Fields("~acme:* ~tls:* +eval +get +set +del +exists +hmget +hset +pexpire " +
	"+zadd +zrem +zcard +zcount +zscore +zrange +zrangebyscore +zremrangebyscore")

// eachACMEStore runs f against each kind of store that is shared. do performs a command there, and
// two stores are those of two edges.
func eachACMEStore(t *testing.T, f func(t *testing.T, do func(args ...string) any, one, other *ACMEStore)) {
	t.Helper()
	open := func(t *testing.T, driver ...string) *ACMEStore {
		t.Helper()
		s, err := start(t, Options{Driver: driver}).ACME()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("standalone, with no more rights than needed", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		s.Do(append(append([]string{"ACL", "SETUSER", "edge"}, minimalACL...), acmeACL...)...)
		url := fmt.Sprintf("redis://edge:secret@127.0.0.1:%d", s.Port)
		f(t, s.Do, open(t, url), open(t, url))
	})
	t.Run("replica and master", func(t *testing.T) {
		t.Parallel()
		master := redistest.Start(t)
		replica := redistest.StartReplica(t, master)
		f(t, master.Do, open(t, replica.URL(), master.URL()), open(t, replica.URL(), master.URL()))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartCluster(t, 3, false)
		f(t, func(args ...string) any { return s.Do(t, args...) }, open(t, s.URL()), open(t, s.URL()))
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACME_NoShareWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newFileRoutes(t)
	if _, err := start(t, Options{Driver: []string{r.driver()}}).ACME(); !errors.Is(err, ErrNoShare) {
		t.Errorf("got %v, want %v", err, ErrNoShare)
	}
}

func TestACME_TextLocksAndLimits(t *testing.T) {
	t.Parallel()
	eachACMEStore(t, func(t *testing.T, do func(args ...string) any, one, other *ACMEStore) {
		ctx := t.Context()
		must(t, one.Put(ctx, "acme:http-01:token", "answer", time.Minute))
		if text, ok, err := other.Challenge("acme:http-01:token", testClient); text != "answer" || !ok || err != nil {
			t.Errorf("challenge: got %q, %v, %v", text, ok, err)
		}
		if ttl, _ := do("PTTL", "acme:http-01:token").(int64); ttl <= 0 || ttl > 60_000 {
			t.Errorf("it ends in %d ms", ttl)
		}
		must(t, other.Delete(ctx, "acme:http-01:token"))
		if text, ok, err := one.Get(ctx, "acme:http-01:token"); ok || err != nil {
			t.Errorf("deleted: got %q, %v", text, err)
		}

		lock := func(s *ACMEStore, owner string, ttl time.Duration) bool {
			ok, err := s.Lock(ctx, "acme:lock:x", owner, ttl)
			must(t, err)
			return ok
		}
		taken, prolonged := lock(one, "a", time.Minute), lock(one, "a", time.Minute)
		if !taken || !prolonged || lock(other, "b", time.Minute) {
			t.Error("a lock is not its owner's alone")
		}
		must(t, other.Unlock(ctx, "acme:lock:x", "b"))
		if lock(other, "b", time.Minute) {
			t.Error("a lock was given up by somebody else")
		}
		must(t, one.Unlock(ctx, "acme:lock:x", "a"))
		if !lock(other, "b", 100*time.Millisecond) {
			t.Error("a lock that was given up is not free")
		}
		eventually(t, "a lock ends with its time", func() bool { return lock(one, "a", time.Minute) })

		admit := func(id string) time.Duration {
			wait, err := one.Admit(ctx, "acme:orders", id, 2, 500*time.Millisecond)
			must(t, err)
			return wait
		}
		if first, again := admit("1"), admit("1"); first != 0 || again != 0 || admit("2") != 0 {
			t.Error("what fits is refused, or the same is counted twice")
		}
		if wait := admit("3"); wait <= 0 || wait > 500*time.Millisecond {
			t.Errorf("beyond the limit: wait %v", wait)
		}
		must(t, other.Retract(ctx, "acme:orders", "2"))
		if admit("3") != 0 {
			t.Error("what was taken back still counts")
		}
		eventually(t, "the window has passed", func() bool { return admit("4") == 0 })
	})
}

func TestACME_OneOwnerAmongMany(t *testing.T) {
	t.Parallel()
	eachACMEStore(t, func(t *testing.T, _ func(args ...string) any, one, other *ACMEStore) {
		var owners atomic.Int32
		var edges sync.WaitGroup
		for i := range 20 {
			edges.Go(func() {
				s := []*ACMEStore{one, other}[i%2]
				if ok, err := s.Lock(t.Context(), "acme:lock:y", fmt.Sprint(i), time.Minute); err != nil {
					t.Error(err)
				} else if ok {
					owners.Add(1)
				}
			})
		}
		edges.Wait()
		if n := owners.Load(); n != 1 {
			t.Errorf("%d owners", n)
		}
	})
}

// What somebody wrote by hand is his: with HSET over ours, before ours, in part, or as another type.
func TestACME_CertificatesAndTheirOwners(t *testing.T) {
	t.Parallel()
	eachACMEStore(t, func(t *testing.T, do func(args ...string) any, one, other *ACMEStore) {
		ctx, ca := context.WithoutCancel(t.Context()), certtest.New(t)
		put := func(name string, p certtest.Pair) bool {
			ok, err := one.PutCertificate(ctx, name, p.Certificate, p.Key)
			must(t, err)
			return ok
		}
		check := func(name string, want certtest.Pair, wantOurs bool) {
			t.Helper()
			cert, key, ours, found, err := other.Certificate(ctx, name)
			must(t, err)
			if cert != want.Certificate || key != want.Key || ours != wantOurs || !found {
				t.Errorf("%s: found %v, ours %v, as expected %v", name, found, ours, cert == want.Certificate)
			}
		}
		if _, _, _, found, err := one.Certificate(ctx, "www.a.example"); found || err != nil {
			t.Errorf("found what is not there: %v", err)
		}
		first, second, byHand := ca.Issue(t, "www.a.example"), ca.Issue(t, "www.a.example"), ca.Issue(t, "www.a.example")
		for _, p := range []certtest.Pair{first, second} {
			if !put("www.a.example", p) {
				t.Error("ours cannot be replaced")
			}
			check("www.a.example", p, true)
			awaitSerial(t, other.c, "www.a.example", p.Serial)
		}
		do("HSET", "tls:www.a.example", "certificate", byHand.Certificate, "key", byHand.Key)
		check("www.a.example", byHand, false)
		if put("www.a.example", first) {
			t.Error("what was written over ours was replaced")
		}
		check("www.a.example", byHand, false)
		awaitSerial(t, one.c, "www.a.example", byHand.Serial)

		do("HSET", "tls:part.example", "key", byHand.Key)
		do("SET", "tls:text.example", "x")
		for _, name := range []string{"part.example", "text.example"} {
			if put(name, first) {
				t.Errorf("%s was replaced", name)
			}
			if _, _, ours, found, err := one.Certificate(ctx, name); ours || !found || err != nil {
				t.Errorf("%s: ours %v, found %v, %v", name, ours, found, err)
			}
		}
		do("DEL", "tls:www.a.example")
		if !put("www.a.example", first) {
			t.Error("a name that is free again is not")
		}
	})
}

func TestACME_Schedule(t *testing.T) {
	t.Parallel()
	eachACMEStore(t, func(t *testing.T, _ func(args ...string) any, one, other *ACMEStore) {
		ctx, now := t.Context(), time.Now()
		names, due, next, first, err := one.Outlook(ctx, now)
		if names != 0 || due != 0 || !next.IsZero() || !first.IsZero() || err != nil {
			t.Errorf("empty: %d %d %v %v %v", names, due, next, first, err)
		}
		for i, name := range []string{"late", "early", "later"} {
			after := []time.Duration{-time.Minute, -time.Hour, time.Hour}[i]
			must(t, one.Schedule(ctx, name, now.Add(after), now.Add(after+24*time.Hour)))
		}
		names, due, next, first, err = other.Outlook(ctx, now)
		if names != 3 || due != 2 || next.Unix() != now.Add(time.Hour).Unix() || first.Unix() != now.Add(23*time.Hour).Unix() || err != nil {
			t.Errorf("got %d names, %d due, next %v, first expiry %v, %v", names, due, next, first, err)
		}
		got, err := other.Due(ctx, now, 1)
		if must(t, err); !slices.Equal(got, []string{"early"}) {
			t.Errorf("due: %v", got)
		}
		must(t, other.Postpone(ctx, "early", now.Add(time.Minute)))
		must(t, other.Postpone(ctx, "unknown", now.Add(-time.Minute)))
		must(t, other.Forget(ctx, "later"))
		got, err = one.Due(ctx, now, 9)
		if must(t, err); !slices.Equal(got, []string{"late"}) {
			t.Errorf("due: %v", got)
		}
		if names, _, _, _, _ = one.Outlook(ctx, now); names != 2 {
			t.Errorf("%d names", names)
		}
	})
}

// Whoever asks for challenges that do not exist is stopped before the store is; others are not.
func TestACME_ChallengesAreLimited(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	store, err := start(t, Options{Driver: []string{s.URL()}}).ACME()
	must(t, err)
	must(t, store.Put(t.Context(), "acme:http-01:real", "answer", time.Minute))
	eventually(t, "the limit is reached", func() bool {
		for i := range 4 * maxClientMissRate {
			if _, ok, err := store.Challenge(fmt.Sprintf("acme:http-01:%d", i), testClient); ok || err != nil {
				t.Fatalf("found %v, %v", ok, err)
			}
		}
		_, ok, _ := store.Challenge("acme:http-01:real", testClient)
		return !ok
	})
	if text, ok, err := store.Challenge("acme:http-01:real", netip.MustParseAddr("198.51.100.7")); text != "answer" || !ok || err != nil {
		t.Errorf("another network: got %q, %v, %v", text, ok, err)
	}
	if store.c.m.certsLimited.Get() == 0 {
		t.Error("the limit is not counted")
	}
}

// A master that has lost its connections, and one that has become a replica.
func TestACME_MasterComesAndGoes(t *testing.T) {
	t.Parallel()
	s, other := redistest.Start(t), redistest.Start(t)
	store, err := start(t, Options{Driver: []string{s.URL()}}).ACME()
	must(t, err)
	must(t, store.Put(t.Context(), "acme:pause", "x", 0))
	s.Do("CLIENT", "KILL", "TYPE", "normal")
	must(t, store.Put(t.Context(), "acme:pause", "y", 0))
	s.Do("REPLICAOF", "127.0.0.1", fmt.Sprint(other.Port))
	if err := store.Put(t.Context(), "acme:pause", "z", 0); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("a replica: got %v, want its refusal", err)
	}
	s.Do("REPLICAOF", "NO", "ONE")
	must(t, store.Put(t.Context(), "acme:pause", "z", 0))
	s.Kill()
	if err := store.Put(t.Context(), "acme:pause", "z", 0); err == nil {
		t.Error("nobody is there, and no error")
	}
	s.Restart()
	eventually(t, "it is back", func() bool { return store.Put(t.Context(), "acme:pause", "z", 0) == nil })
}
