package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/acmetest"
	"sluice/internal/certtest"
	"sluice/internal/logtest"
)

// heldText is what a memoryStore keeps under a key.
type heldText struct {
	text string
	end  time.Time
}

// memoryStore is a Store for edges in one process.
type memoryStore struct {
	mu     sync.Mutex
	texts  map[string]heldText
	certs  map[string][2]string
	ours   map[string]bool
	due    map[string]time.Time
	counts map[string]map[string]bool
	err    error // of all operations, while it is away
}

func newMemoryStore() *memoryStore {
	return &memoryStore{
		texts: map[string]heldText{}, certs: map[string][2]string{}, ours: map[string]bool{},
		due: map[string]time.Time{}, counts: map[string]map[string]bool{},
	}
}

func (s *memoryStore) get(key string) (string, bool) {
	h, ok := s.texts[key]
	return h.text, ok && (h.end.IsZero() || time.Now().Before(h.end))
}

func (s *memoryStore) Get(_ context.Context, key string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.get(key)
	return text, ok, s.err
}

func (s *memoryStore) Challenge(key string, _ netip.Addr) (string, bool, error) {
	return s.Get(context.Background(), key)
}

func (s *memoryStore) Put(_ context.Context, key, text string, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := heldText{text: text}
	if ttl > 0 {
		h.end = time.Now().Add(ttl)
	}
	s.texts[key] = h
	return s.err
}

func (s *memoryStore) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.texts, key)
	return s.err
}

func (s *memoryStore) Lock(_ context.Context, key, owner string, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if has, ok := s.get(key); ok && has != owner {
		return false, s.err
	}
	s.texts[key] = heldText{owner, time.Now().Add(ttl)}
	return s.err == nil, s.err
}

func (s *memoryStore) Unlock(_ context.Context, key, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if has, _ := s.get(key); has == owner {
		delete(s.texts, key)
	}
	return s.err
}

func (s *memoryStore) Admit(_ context.Context, key, id string, limit int, window time.Duration) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts[key]) >= limit {
		return window, s.err
	}
	if s.counts[key] == nil {
		s.counts[key] = map[string]bool{}
	}
	s.counts[key][id] = true
	return 0, s.err
}

func (s *memoryStore) Retract(_ context.Context, key, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.counts[key], id)
	return s.err
}

func (s *memoryStore) Certificate(_ context.Context, name string) (string, string, bool, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.certs[name]
	return c[0], c[1], s.ours[name], ok, s.err
}

func (s *memoryStore) PutCertificate(_ context.Context, name, certificate, key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.certs[name]; ok && !s.ours[name] {
		return false, s.err
	}
	s.certs[name], s.ours[name] = [2]string{certificate, key}, true
	return true, s.err
}

func (s *memoryStore) Schedule(_ context.Context, name string, due, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[name] = due
	return s.err
}

func (s *memoryStore) Postpone(ctx context.Context, name string, due time.Time) error {
	return s.Schedule(ctx, name, due, due)
}

func (s *memoryStore) Forget(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, name)
	return s.err
}

func (s *memoryStore) Due(_ context.Context, now time.Time, limit int) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, due := range s.due {
		if now.After(due) && len(names) < limit {
			names = append(names, name)
		}
	}
	return names, s.err
}

func (s *memoryStore) Outlook(_ context.Context, now time.Time) (names, due int, next, first time.Time, err error) {
	overdue, _ := s.Due(context.Background(), now, 1000)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.due), len(overdue), next, first, s.err
}

// keys returns those that hold something and begin with one of the prefixes.
func (s *memoryStore) keys(prefixes ...string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.texts {
		for _, p := range prefixes {
			if _, ok := s.get(key); ok && strings.HasPrefix(key, p) {
				found = append(found, key)
			}
		}
	}
	return found
}

func (s *memoryStore) failureOf(t *testing.T, key string) *failure {
	t.Helper()
	f := new(failure)
	text, ok, _ := s.Get(t.Context(), key)
	if !ok || json.Unmarshal([]byte(text), f) != nil {
		t.Fatalf("%s holds %q", key, text)
	}
	return f
}

// bench is a store, an authority, and a place where it validates by HTTP-01.
type bench struct {
	t         *testing.T
	store     *memoryStore
	authority *acmetest.Authority
	log       *logtest.Buffer
	roots     *x509.CertPool

	mu      sync.Mutex
	issuers []*Issuer
	hold    chan struct{} // validation waits for it to be closed; nil: it does not wait
	asked   chan struct{} // capacity 1: a validation has come
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, store: newMemoryStore(), log: new(logtest.Buffer), roots: x509.NewCertPool(), asked: make(chan struct{}, 1)}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(b.answer), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }() // until Close
	t.Cleanup(func() { _ = server.Close() })
	b.authority = acmetest.Start(t, acmetest.Options{HTTPPort: ln.Addr().(*net.TCPAddr).Port, TLSPort: 1})
	text, err := os.ReadFile(b.authority.CAFile(t))
	if err != nil || !b.roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	return b
}

// answer lets the last issuer answer, which need not be the one that ordered.
func (b *bench) answer(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	i, hold := b.issuers[len(b.issuers)-1], b.hold
	b.mu.Unlock()
	select {
	case b.asked <- struct{}{}:
	default:
	}
	if hold != nil {
		<-hold
	}
	host, _, _ := net.SplitHostPort(r.Host)
	token := strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")
	if text := i.HTTPChallenge([]byte(host), []byte(token), netip.Addr{}); text != nil {
		_, _ = w.Write(text)
		return
	}
	http.NotFound(w, r)
}

// issuer makes one that routes all names.
func (b *bench) issuer(edit ...func(*Options)) *Issuer {
	b.t.Helper()
	o := Options{
		Directory: b.authority.Directory(), Roots: b.roots, Challenges: []string{HTTP01}, Wait: 20 * time.Second,
		MaxInFlight: 4, MaxQueued: 10, MaxPerHour: 100, MaxPerDomain: 100, DomainPeriod: time.Hour,
		Store: b.store, Routed: func(string, netip.Addr) (bool, error) { return true, nil }, Log: b.log.Logger(),
	}
	for _, f := range edit {
		f(&o)
	}
	i, err := New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.issuers = append(b.issuers, i)
	b.mu.Unlock()
	b.t.Cleanup(i.Close)
	return i
}

func TestIssuer_EdgesShareOneOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authority.Resolve("www.a.example", "127.0.0.1")
	edges := []*Issuer{b.issuer(), b.issuer(), b.issuer()}
	var clients sync.WaitGroup
	for n := range 12 {
		clients.Go(func() {
			if cert := edges[n%3].Obtain("www.a.example", netip.Addr{}); cert == nil || cert.Leaf.VerifyHostname("www.a.example") != nil {
				t.Error("no certificate for it")
			}
		})
	}
	clients.Wait()
	if n := b.authority.Ordered("www.a.example"); n != 1 {
		t.Errorf("%d orders", n)
	}
	if left := b.store.keys(lockKey, httpKey, failedKey); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if n := edges[0].m.issued.Get() + edges[1].m.issued.Get() + edges[2].m.issued.Get(); n != 1 || len(b.store.due) != 1 {
		t.Errorf("%d issued, %d scheduled", n, len(b.store.due))
	}
}

// A handshake may come before the edge could read what the store holds.
func TestIssuer_OrdersNothingThatTheStoreHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i, ca := b.issuer(), certtest.New(t)
	wild, own := ca.Issue(t, "*.a.example"), ca.Issue(t, "own.b.example")
	expired := ca.IssueWith(t, certtest.Expired, "*.c.example")
	b.store.certs["*.a.example"] = [2]string{wild.Certificate, wild.Key}
	b.store.certs["own.b.example"] = [2]string{own.Certificate, own.Key}
	b.store.certs["*.c.example"] = [2]string{expired.Certificate, expired.Key}
	if cert := i.Obtain("www.a.example", netip.Addr{}); cert == nil || cert.Leaf.SerialNumber.String() != wild.Serial {
		t.Error("the wildcard's certificate is not used")
	}
	if cert := i.Obtain("own.b.example", netip.Addr{}); cert != nil {
		t.Error("somebody else's certificate was taken for ours")
	}
	if n := b.authority.Requests(); n != 0 {
		t.Errorf("the authority heard of it: %d requests", n)
	}
	b.authority.Resolve("www.c.example", "127.0.0.1")
	if cert := i.Obtain("www.c.example", netip.Addr{}); cert == nil {
		t.Error("an expired wildcard stands in the way")
	}
}

func TestIssuer_BacksOffMoreEachTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authority.Block(t, "blocked.example")
	i := b.issuer()
	for n, want := range backoffs {
		i.refused.forget("www.blocked.example")
		if i.Obtain("www.blocked.example", netip.Addr{}) != nil {
			t.Fatal("it was issued")
		}
		f := b.store.failureOf(t, failedKey+"www.blocked.example")
		left := f.left(time.Now())
		if f.Attempts != n+1 || left < want-time.Minute || left > want+want/9 || f.Reason != reasonRefused {
			t.Errorf("attempt %d: %+v, %v left, want %v", n+1, f, left, want)
		}
		// Until then nobody asks, another edge neither.
		requests := b.authority.Requests()
		if b.issuer().Obtain("www.blocked.example", netip.Addr{}) != nil || b.authority.Requests() != requests {
			t.Error("asked again too soon")
		}
		f.Until = time.Now().Add(-time.Second).Unix()
		text, err := json.Marshal(f)
		if err != nil || b.store.Put(t.Context(), failedKey+"www.blocked.example", string(text), 0) != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(b.log.String(), "certificate not issued"); n != len(backoffs) {
		t.Errorf("%d lines for %d attempts:\n%s", n, len(backoffs), b.log)
	}
}

// What an authority has had enough of is left alone by all names of the domain, for as long as it says.
func TestIssuer_HeedsTheAuthoritysLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"a.full.example", "b.full.example", "a.other.example"} {
		b.authority.Resolve(name, "127.0.0.1")
	}
	i := b.issuer()
	b.authority.Limit(5 * time.Hour)
	if i.Obtain("a.full.example", netip.Addr{}) != nil {
		t.Fatal("it was issued")
	}
	b.authority.Limit(0)
	if left := b.store.failureOf(t, domainKey+"full.example").left(time.Now()); left < 4*time.Hour || left > 6*time.Hour {
		t.Errorf("the domain is left alone for %v", left)
	}
	if i.Obtain("b.full.example", netip.Addr{}) != nil {
		t.Error("another name of the domain was tried")
	}
	if i.Obtain("a.other.example", netip.Addr{}) == nil {
		t.Error("another domain was not tried")
	}
	if i.m.failed[reasonRateLimited].Get() != 1 || !strings.Contains(b.log.String(), "too many certificates already issued") {
		t.Errorf("it is not told:\n%s", b.log)
	}
}

// A name that has failed often waits for longer than the others of its domain have to.
func TestIssuer_DomainIsLeftAloneAsLongAsTheAuthoritySays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authority.Resolve("a.full.example", "127.0.0.1")
	text, err := json.Marshal(&failure{Attempts: 3, Until: time.Now().Add(-time.Second).Unix(), Reason: reasonChallenge})
	if err != nil || b.store.Put(t.Context(), failedKey+"a.full.example", string(text), 0) != nil {
		t.Fatal(err)
	}
	b.authority.Limit(2 * time.Minute)
	if b.issuer().Obtain("a.full.example", netip.Addr{}) != nil {
		t.Fatal("it was issued")
	}
	now := time.Now()
	if left := b.store.failureOf(t, domainKey+"full.example").left(now); left < time.Minute || left > 2*time.Minute {
		t.Errorf("the domain is left alone for %v, want 2m", left)
	}
	if left := b.store.failureOf(t, failedKey+"a.full.example").left(now); left < 23*time.Hour {
		t.Errorf("the name is left alone for %v, want a day", left)
	}
}

func TestIssuer_LimitsOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	release := make(chan struct{})
	i := b.issuer(func(o *Options) {
		o.MaxInFlight, o.MaxQueued, o.Wait = 1, 1, 10*time.Millisecond
		o.Routed = func(string, netip.Addr) (bool, error) {
			<-release
			return false, nil
		}
	})
	t.Cleanup(func() { close(release) }) // before the issuer ends, which waits for it
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example", "a.example"} {
		if i.Obtain(name, netip.Addr{}) != nil {
			t.Errorf("%s has a certificate", name)
		}
	}
	if queue, wait := i.m.limited[limitQueue].Get(), i.m.limited[limitWait].Get(); queue != 2 || wait != 3 {
		t.Errorf("%d found no room, %d did not wait any longer; want 2 and 3", queue, wait)
	}
}

func TestIssuer_FleetsLimitTakesNothingFromTheDomain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i := b.issuer(func(o *Options) { o.MaxPerHour = 1 })
	for _, name := range []string{"a.x.example", "b.x.example"} {
		b.authority.Resolve(name, "127.0.0.1")
	}
	first, second := i.Obtain("a.x.example", netip.Addr{}), i.Obtain("b.x.example", netip.Addr{})
	if first == nil || second != nil || i.m.limited[limitOrders].Get() != 1 {
		t.Errorf("first %v, second %v, %d limited", first != nil, second != nil, i.m.limited[limitOrders].Get())
	}
	if n := len(b.store.counts[perDomainKey+"x.example"]); n != 1 {
		t.Errorf("%d orders count under the domain", n)
	}
}

// readingStore counts the certificates that are read.
type readingStore struct {
	*memoryStore
	reads atomic.Int64
}

func (s *readingStore) Certificate(ctx context.Context, name string) (string, string, bool, bool, error) {
	s.reads.Add(1)
	return s.memoryStore.Certificate(ctx, name)
}

// Handshakes are served with what others have put there, too, to its very end.
func TestIssuer_ConsiderAsksNothingAboutCertificatesOfMoreNames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := &readingStore{memoryStore: b.store}
	i := b.issuer(func(o *Options) { o.Store = s })
	const host = "www.a.example"
	for _, tt := range []struct {
		names []string
		max   int64
	}{{[]string{"*.a.example"}, 0}, {[]string{host, "a.example"}, 0}, {[]string{"b.example"}, 0}, {[]string{host}, 1}} {
		pair := certtest.New(t).Issue(t, tt.names...)
		b.store.certs = map[string][2]string{tt.names[0]: {pair.Certificate, pair.Key}}
		stored, err := i.read(t.Context(), &flight{}, tt.names[0])
		if err != nil || stored.pair == nil {
			t.Fatal(err)
		}
		leaf := *stored.pair.Leaf
		leaf.NotAfter = time.Now().Add(time.Hour)
		leaf.NotBefore = leaf.NotAfter.Add(-24 * time.Hour) // It is in its last third.
		s.reads.Store(0)
		for range 20 {
			i.Consider(host, &leaf)
			settled(t, i)
		}
		if n := s.reads.Load(); n > tt.max {
			t.Errorf("%v: the store was asked %d times in 20 handshakes, want %d at most", tt.names, n, tt.max)
		}
	}
}

// An edge that ends gives its lock and its challenge up, and another one takes over.
func TestIssuer_CloseGivesUpWhatItHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authority.Resolve("www.a.example", "127.0.0.1")
	b.hold = make(chan struct{})
	i := b.issuer(func(o *Options) { o.Wait = 0 })
	i.Obtain("www.a.example", netip.Addr{})
	<-b.asked
	if len(b.store.keys(lockKey+"www", httpKey)) != 2 {
		t.Errorf("it holds %v", b.store.keys("acme:"))
	}
	begin := time.Now()
	i.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if left := b.store.keys(lockKey, httpKey, failedKey, pauseKey); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if i.Obtain("www.a.example", netip.Addr{}) != nil {
		t.Error("it works after its end")
	}
	close(b.hold)
	if b.issuer().Obtain("www.a.example", netip.Addr{}) == nil {
		t.Error("nobody takes over")
	}
}

func TestIssuer_StoreAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.store.err = errors.New("connection refused")
	i := b.issuer()
	for _, name := range []string{"a.example.com", "b.example.com"} {
		if i.Obtain(name, netip.Addr{}) != nil {
			t.Error("it was issued")
		}
	}
	if n := strings.Count(b.log.String(), "the store did not do its part"); n != 1 || b.authority.Requests() != 0 {
		t.Errorf("%d lines, %d requests to the authority:\n%s", n, b.authority.Requests(), b.log)
	}
	if n := i.m.failed[reasonStore].Get(); n != 2 {
		t.Errorf("%d failures counted", n)
	}
}

// A challenge is answered for its own host and token alone.
func TestIssuer_ChallengesAreForTheirName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i := b.issuer()
	const token = "0123456789abcdef"
	if err := b.store.Put(t.Context(), httpKey+token, "www.a.example answer", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ host, token, want string }{
		{"www.a.example", token, "answer"},
		{"www.b.example", token, ""},
		{"www.a.example", "0123456789abcdeX", ""},
		{"www.a.example", "../account:x/0000", ""},
		{"", token, ""},
	} {
		if got := i.HTTPChallenge([]byte(tt.host), []byte(tt.token), netip.Addr{}); string(got) != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.host, tt.token, got, tt.want)
		}
	}
	pair := certtest.New(t).Issue(t, "www.a.example")
	if err := b.store.Put(t.Context(), alpnKey+"www.a.example", pair.Certificate+pair.Key, time.Minute); err != nil {
		t.Fatal(err)
	}
	if cert := i.TLSChallenge("www.a.example", netip.Addr{}); cert == nil || cert.Leaf.SerialNumber.String() != pair.Serial {
		t.Error("no certificate for the challenge")
	}
	if cert := i.TLSChallenge("www.b.example", netip.Addr{}); cert != nil {
		t.Error("a certificate for a name without a challenge")
	}
}
