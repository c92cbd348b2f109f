package acme

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/certtest"
)

// refusingStore takes all but certificates, as one does whose user lacks ~tls:*, or whose shard for them is full.
type refusingStore struct {
	*memoryStore
	refuses atomic.Bool
	keys    atomic.Pointer[string] // the last key that was to be written
}

func (s *refusingStore) PutCertificate(ctx context.Context, name, certificate, key string) (bool, error) {
	s.keys.Store(&key)
	if s.refuses.Load() {
		return false, errors.New("NOPERM this user has no permissions to access one of the keys")
	}
	return s.memoryStore.PutCertificate(ctx, name, certificate, key)
}

// newRefusingBench returns an issuer whose store takes no certificates, and that store.
func newRefusingBench(t *testing.T) (*bench, *Issuer, *refusingStore) {
	t.Helper()
	b := newBench(t)
	b.authority.Resolve("www.a.example", "127.0.0.1")
	s := &refusingStore{memoryStore: b.store}
	s.refuses.Store(true)
	return b, b.issuer(func(o *Options) { o.Store = s }), s
}

// settled waits until nothing is under way.
func settled(t *testing.T, i *Issuer) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		i.mu.Lock()
		n := len(i.flights)
		i.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d names are still worked on", n)
		}
	}
}

// Authorities issue the same certificate a handful of times a week.
func TestUnwritten_IsOrderedOnceServesHereAndIsWrittenLater(t *testing.T) {
	t.Parallel()
	b, i, s := newRefusingBench(t)
	first := i.Obtain("www.a.example", netip.Addr{})
	if first == nil {
		t.Fatal("what was issued does not serve the edge that has it")
	}
	for range 5 {
		i.refused.forget("www.a.example") // ten seconds pass
		if i.Obtain("www.a.example", netip.Addr{}) != first {
			t.Fatal("another certificate serves")
		}
		settled(t, i)
	}
	f := b.store.failureOf(t, failedKey+"www.a.example")
	if left := f.left(time.Now()); f.Attempts != 1 || f.Reason != reasonStore || left < 9*time.Minute || left > 11*time.Minute {
		t.Errorf("other edges are told %+v, %v left", f, left)
	}
	if b.issuer().Obtain("www.a.example", netip.Addr{}) != nil {
		t.Error("another edge has a certificate")
	}
	if n := b.authority.Ordered("www.a.example"); n != 1 {
		t.Errorf("%d orders", n)
	}
	if n := i.m.issued.Get(); n != 0 || i.m.failed[reasonStore].Get() != 6 {
		t.Errorf("%d issued, %d failures counted", n, i.m.failed[reasonStore].Get())
	}

	s.refuses.Store(false)
	i.refused.forget("www.a.example")
	i.writeLater() // nobody asks for it
	settled(t, i)
	pair, err := i.read(t.Context(), &flight{}, "www.a.example")
	if err != nil || pair.pair == nil || !pair.ours || !pair.pair.Leaf.Equal(first.Leaf) {
		t.Errorf("the store holds %+v, %v", pair, err)
	}
	if left := b.store.keys(failedKey, lockKey+"www"); len(left) > 0 || len(b.store.due) != 1 || i.m.issued.Get() != 1 {
		t.Errorf("left behind: %v; %d scheduled, %d issued", left, len(b.store.due), i.m.issued.Get())
	}
	if i.unwritten.count() != 0 {
		t.Error("it is kept although it was written")
	}
	text := b.log.String()
	if n := strings.Count(text, "certificate issued, but not stored"); n != 1 || !strings.Contains(text, "NOPERM") {
		t.Errorf("%d lines tell of it:\n%s", n, text)
	}
	if secret := strings.Split(*s.keys.Load(), "\n")[1]; strings.Contains(text, secret) || strings.Contains(f.Problem, secret) {
		t.Error("the log or the store's failure holds a private key")
	}
}

// The pair is given up as soon as the name is not to have it any more.
func TestUnwritten_EndsWithItsReason(t *testing.T) {
	t.Parallel()
	routed := atomic.Bool{}
	routes := func(string, netip.Addr) (bool, error) { return routed.Load(), nil }
	for name, end := range map[string]func(t *testing.T, b *bench, i *Issuer){
		"route removed": func(*testing.T, *bench, *Issuer) { routed.Store(false) },
		"somebody's own": func(t *testing.T, b *bench, _ *Issuer) {
			own := certtest.New(t).Issue(t, "www.a.example")
			b.store.mu.Lock()
			defer b.store.mu.Unlock()
			b.store.certs["www.a.example"] = [2]string{own.Certificate, own.Key}
		},
		"due for renewal": func(_ *testing.T, _ *bench, i *Issuer) {
			i.unwritten.mu.Lock()
			defer i.unwritten.mu.Unlock()
			i.unwritten.pairs["www.a.example"].until = time.Now().Add(-time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			routed.Store(true)
			b, _, s := newRefusingBench(t)
			i := b.issuer(func(o *Options) { o.Store, o.Routed = s, routes })
			if i.Obtain("www.a.example", netip.Addr{}) == nil {
				t.Fatal("it does not serve")
			}
			end(t, b, i)
			i.refused.forget("www.a.example")
			i.Obtain("www.a.example", netip.Addr{}) // may serve once more
			settled(t, i)
			if i.Obtain("www.a.example", netip.Addr{}) != nil {
				t.Error("it serves on")
			}
			if n := b.authority.Ordered("www.a.example"); n != 1 {
				t.Errorf("%d orders", n)
			}
		})
	}
}

// A lock that is lost at the end of an order costs no second one.
func TestUnwritten_LostLock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i := b.issuer()
	pair := certtest.New(t).Issue(t, "www.a.example")
	p, err := newIssued("www.a.example", pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, lose := context.WithCancel(t.Context())
	lose()
	if _, err := i.keep(ctx, &flight{name: "www.a.example"}, p); err == nil || i.unwritten.get("www.a.example", time.Now()) != p {
		t.Fatal("it is written without a lock, or dropped")
	}
	if cert := i.Obtain("www.a.example", netip.Addr{}); cert != p.cert {
		t.Error("it does not serve")
	}
	settled(t, i)
	chain, _, ours, _, _ := b.store.Certificate(t.Context(), "www.a.example")
	if chain != pair.Certificate || !ours || b.authority.Requests() != 0 {
		t.Errorf("it was not written; %d requests to the authority", b.authority.Requests())
	}
}

// A store that takes none of many has no more of them ordered.
func TestUnwritten_IsBounded(t *testing.T) {
	t.Parallel()
	b, i, _ := newRefusingBench(t)
	for n := range maxUnwritten {
		i.unwritten.put(strings.Repeat("a", n+1), &issued{until: time.Now().Add(time.Hour)})
	}
	if i.Obtain("www.a.example", netip.Addr{}) != nil || b.authority.Requests() != 0 {
		t.Errorf("it was ordered: %d requests to the authority", b.authority.Requests())
	}
}
