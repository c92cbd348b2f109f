package acme

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxWaiting bounds the handshakes that wait at once. Limit: beyond it they go on without.
	maxWaiting = 1024
	// elsewherePause is how long a handshake waits before it looks again at what another edge does.
	elsewherePause = 300 * time.Millisecond
	// storeTimeout bounds each step with the store.
	storeTimeout = 3 * time.Second
	// orderTimeout bounds the work on one name.
	orderTimeout = 3 * time.Minute
	// lockTTL is how long a lock outlives an edge that died. It is prolonged while the work lasts.
	lockTTL = 30 * time.Second
)

// How long this process remembers that nothing can be had for a name, before it asks again.
const (
	rememberRefused = 10 * time.Second // no route, a pause, a failure that is still young
	rememberLimited = time.Minute      // too many orders
	rememberHeld    = 10 * time.Minute // somebody else's certificate
)

// Issuer obtains and renews certificates. Create it with New.
type Issuer struct {
	// Immutable after New.
	o     Options
	log   *slog.Logger
	m     *counters
	owner string // of this process's locks
	id    string // of the directory, in keys
	slots chan struct{}
	// scheduled tells, with a capacity of 1, that the schedule has changed.
	scheduled chan struct{}

	refused   memory // names that nothing can be had for
	told      memory // lines that were logged lately
	unwritten unwritten
	own       answers
	account   account
	waiting   atomic.Int64

	mu      sync.Mutex // guards what follows; never held over I/O
	flights map[string]*flight
	closed  bool

	ctx    context.Context
	cancel context.CancelFunc
	runs   sync.WaitGroup
}

// flight is the work on one name, for all who wait for it.
type flight struct {
	name    string
	renewal bool // the schedule asks, not a handshake
	client  netip.Addr
	// Set before done is closed.
	cert *tls.Certificate // may be there with err: it serves here, but the store has not taken it
	err  error
	wait time.Duration // with errLimited and errBackoff: until when it is of no use to try again
	done chan struct{}
}

// New checks the options and returns an Issuer, which does nothing until Start.
func New(o Options) (*Issuer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	sum := sha256.Sum256([]byte(o.Directory))
	i := &Issuer{
		o: o, log: o.Log, owner: rand.Text(), id: hex.EncodeToString(sum[:8]),
		slots: make(chan struct{}, o.MaxInFlight), scheduled: make(chan struct{}, 1), flights: map[string]*flight{},
	}
	i.m = newCounters(o.Metrics, func() float64 {
		i.mu.Lock()
		defer i.mu.Unlock()
		return float64(max(len(i.flights)-len(i.slots), 0))
	})
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i, nil
}

// Start begins to renew what is due. Call it once.
func (i *Issuer) Start() { i.runs.Go(i.runSchedule) }

// Close ends all work and waits until locks and challenges are given up.
func (i *Issuer) Close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.cancel()
	i.runs.Wait()
}

// Obtain returns a certificate for a server name (in lower case, without a final dot) that has none
// that is valid, or nil if there is none within Options.Wait; the work goes on then. client is the
// peer's address. The certificate has its Leaf and must not be changed.
func (i *Issuer) Obtain(name string, client netip.Addr) *tls.Certificate {
	now := time.Now()
	refused := !eligible(name) || i.refused.holds(name, now)
	if cert := i.unwritten.certificate(name, now); cert != nil {
		if !refused {
			i.launch(name, client, false)
		}
		return cert
	}
	if refused {
		return nil
	}
	if i.waiting.Add(1) > maxWaiting {
		i.waiting.Add(-1)
		i.m.limited[limitWaiting].Inc()
		i.launch(name, client, false)
		return nil
	}
	defer i.waiting.Add(-1)
	patience := time.NewTimer(i.o.Wait)
	defer patience.Stop()
	for {
		f := i.launch(name, client, false)
		if f == nil {
			return nil
		}
		select {
		case <-f.done:
		case <-patience.C:
			i.m.limited[limitWait].Inc()
			return nil
		}
		if f.cert != nil || !errors.Is(f.err, errElsewhere) {
			return f.cert
		}
		pause := time.NewTimer(elsewherePause)
		select {
		case <-pause.C:
		case <-i.ctx.Done():
			pause.Stop()
			return nil
		case <-patience.C:
			pause.Stop()
			i.m.limited[limitWait].Inc()
			return nil
		}
	}
}

// Consider begins to renew the certificate that is served under a name, if it is ours and that is
// due. It does not wait.
func (i *Issuer) Consider(name string, leaf *x509.Certificate) {
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != name {
		return // We make no others; whether a wildcard's is ours need not be asked in each handshake.
	}
	now := time.Now()
	if now.Before(renewalTime(name, leaf)) || !eligible(name) || i.refused.holds(name, now) {
		return
	}
	i.launch(name, netip.Addr{}, false)
}

// launch returns the flight for a name, which it begins if there is none; nil if there is no room.
func (i *Issuer) launch(name string, client netip.Addr, renewal bool) *flight {
	i.mu.Lock()
	defer i.mu.Unlock()
	if f := i.flights[name]; f != nil {
		return f
	}
	if i.closed {
		return nil
	}
	if len(i.flights) >= i.o.MaxQueued+i.o.MaxInFlight {
		i.m.limited[limitQueue].Inc()
		return nil
	}
	f := &flight{name: name, client: client, renewal: renewal, done: make(chan struct{})}
	i.flights[name] = f
	i.runs.Go(func() { i.fly(f) })
	return f
}

// fly does the work and tells those who wait.
func (i *Issuer) fly(f *flight) {
	ctx, cancel := context.WithTimeout(i.ctx, orderTimeout)
	defer cancel()
	f.cert, f.err = i.work(ctx, f)
	now := time.Now()
	if f.err == nil || isOver(f.err) {
		i.unwritten.forget(f.name)
	} else {
		f.cert = i.unwritten.certificate(f.name, now)
	}
	switch {
	case f.err == nil:
		i.refused.forget(f.name)
	case errors.Is(f.err, errElsewhere):
	case errors.Is(f.err, errHeld):
		i.refused.put(f.name, now.Add(rememberHeld))
	case errors.Is(f.err, errLimited):
		i.refused.put(f.name, now.Add(min(f.wait, rememberLimited)))
	default:
		i.refused.put(f.name, now.Add(rememberRefused))
	}
	i.mu.Lock()
	delete(i.flights, f.name)
	i.mu.Unlock()
	close(f.done)
}

// What keeps a name from being ordered without being a failure.
var (
	errNoRoute   = errors.New("the name has no route of its own")
	errUnknown   = errors.New("it is not known at present whether the name has a route")
	errHeld      = errors.New("the store has a certificate that was put there otherwise")
	errElsewhere = errors.New("another edge works on it")
	errBackoff   = errors.New("it failed a short while ago")
	errPaused    = errors.New("nothing is ordered at present")
	errLimited   = errors.New("too many orders")
	errGone      = errors.New("the certificate was removed from the store")
)

// isOver tells whether an error says that a name is to have no certificate from here any more.
func isOver(err error) bool {
	return errors.Is(err, errNoRoute) || errors.Is(err, errHeld) || errors.Is(err, errGone)
}

// work finds or obtains the certificate of a name.
func (i *Issuer) work(ctx context.Context, f *flight) (*tls.Certificate, error) {
	switch routed, err := i.o.Routed(f.name, f.client); {
	case err != nil:
		return nil, errUnknown
	case !routed:
		return nil, errNoRoute
	}
	if cert, _, err := i.present(ctx, f); cert != nil || err != nil {
		return cert, err
	}
	if i.unwritten.get(f.name, time.Now()) == nil {
		if err := i.mayTry(ctx, f); err != nil {
			return nil, err
		}
	}
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, unlock, err := i.lock(ctx, lockKey+f.name)
	if err != nil {
		return nil, i.storeError(f, err)
	}
	defer unlock()
	// Another edge may have had the lock since.
	cert, old, err := i.present(ctx, f)
	if cert != nil || err != nil {
		return cert, err
	}
	if p := i.unwritten.get(f.name, time.Now()); p != nil {
		return i.keep(ctx, f, p)
	}
	if err := i.mayTry(ctx, f); err != nil {
		return nil, err
	}
	i.m.inProgress.Add(1)
	defer i.m.inProgress.Add(-1)
	return i.issue(ctx, f, old)
}

// present reads what the store serves under a name. cert is not nil if that will do; old tells that
// it is ours and to be renewed.
func (i *Issuer) present(ctx context.Context, f *flight) (cert *tls.Certificate, old bool, err error) {
	stored, err := i.read(ctx, f, f.name)
	switch {
	case err != nil:
		return nil, false, err
	case !stored.found && f.renewal:
		return nil, false, errGone
	case !stored.found:
		cert, err = i.covering(ctx, f)
		return cert, false, err
	case !stored.ours:
		return nil, false, errHeld
	}
	if stored.pair == nil {
		return nil, true, nil // What cannot be used is replaced.
	}
	if time.Now().Before(renewalTime(f.name, stored.pair.Leaf)) {
		return stored.pair, false, nil
	}
	return nil, true, nil
}

// covering returns a valid certificate for a wildcard that the name falls under: a handshake may have
// come before this edge could read it.
func (i *Issuer) covering(ctx context.Context, f *flight) (*tls.Certificate, error) {
	_, suffix, _ := strings.Cut(f.name, ".")
	stored, err := i.read(ctx, f, "*."+suffix)
	if err != nil || stored.pair == nil {
		return nil, err
	}
	leaf, now := stored.pair.Leaf, time.Now()
	if leaf.VerifyHostname(f.name) != nil || now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, nil //nolint:nilnil // none that would serve
	}
	return stored.pair, nil
}

// storedPair is what the store serves under a name.
type storedPair struct {
	found, ours bool
	pair        *tls.Certificate // nil if it cannot be used
}

func (i *Issuer) read(ctx context.Context, f *flight, name string) (s storedPair, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	chain, key, ours, found, err := i.o.Store.Certificate(ctx, name)
	if err != nil {
		return s, i.storeError(f, err)
	}
	s.found, s.ours = found, ours
	if pair, err := tls.X509KeyPair([]byte(chain), []byte(key)); err == nil {
		s.pair = &pair
	}
	return s, nil
}

// lock takes a lock of the store and keeps it until unlock is called. The context that it returns
// ends when the lock is lost.
func (i *Issuer) lock(ctx context.Context, key string) (locked context.Context, unlock func(), err error) {
	take := func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return i.o.Store.Lock(ctx, key, i.owner, lockTTL)
	}
	switch ok, err := take(ctx); {
	case err != nil:
		return nil, nil, err
	case !ok:
		return nil, nil, errElsewhere
	}
	locked, lose := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		tick := time.NewTicker(lockTTL / 3)
		defer tick.Stop()
		for held := time.Now(); ; {
			select {
			case <-locked.Done():
				return
			case <-tick.C:
			}
			ok, err := take(locked)
			if ok {
				held = time.Now()
			}
			if err == nil && !ok || time.Since(held) > lockTTL*2/3 {
				lose()
			}
		}
	})
	return locked, func() {
		lose()
		keeper.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		_ = i.o.Store.Unlock(ctx, key, i.owner) // it expires
	}, nil
}
