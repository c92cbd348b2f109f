package proxy

import (
	"crypto/tls"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/cache"
)

// Times of the pools.
const (
	queueTime      = time.Second           // how long a request waits for a place at a backend when all are full
	queuePoll      = 20 * time.Millisecond // how often it looks at the others meanwhile
	surplusPause   = 60 * time.Second      // no reuse for a backend that once sent bytes nobody asked for
	poolUnused     = 60 * time.Second      // a pool that served nobody for so long is dropped
	peekAfter      = 20 * time.Microsecond // a connection idle for longer is looked at before it is used again
	backendBuffer  = 16 << 10              // reads of answers
	maxAnswerHead  = 64 << 10              // Limit: head of an answer
	maxAnswerField = 500                   // Limit: fields of an answer
	maxInterim     = 16                    // Limit: 1xx answers before the final one
)

// pools holds one pool per backend, shared by all frontends that name it.
type pools struct {
	mu  sync.RWMutex
	m   map[string]*pool
	srv *Server
}

// get returns the pool of b.
func (ps *pools) get(b *cache.Backend) *pool {
	ps.mu.RLock()
	p := ps.m[b.Key]
	ps.mu.RUnlock()
	if p != nil {
		return p
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p = ps.m[b.Key]; p == nil {
		p = newPool(ps.srv, b)
		ps.m[b.Key] = p
		ps.srv.metrics.pools.Store(int64(len(ps.m)))
	}
	return p
}

// load returns how many requests are in flight to b.
func (ps *pools) load(b *cache.Backend) int64 {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	if p := ps.m[b.Key]; p != nil {
		return p.active.Load()
	}
	return 0
}

// sweep drops the pools that have served nobody for a while, so that backends which left Redis leave nothing behind.
func (ps *pools) sweep(t instant) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for key, p := range ps.m {
		if p.active.Load() == 0 && p.waiting.Load() == 0 && instant(p.lastUse.Load()).until(t) > poolUnused {
			delete(ps.m, key)
			p.retire()
		}
	}
	ps.srv.metrics.pools.Store(int64(len(ps.m)))
}

// renew replaces every pool, because what pools are made from has changed. Connections in use go on to their end.
func (ps *pools) renew() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.m {
		p.retire()
	}
	clear(ps.m)
}

// closeIdle closes every idle connection.
func (ps *pools) closeIdle() {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	for _, p := range ps.m {
		p.closeIdle()
	}
}

// pool is the connections of one backend. The HostClient keeps the idle ones; how many are in use is counted here.
type pool struct {
	hc  fasthttp.HostClient
	srv *Server

	address string
	tls     *tls.Config // nil for http
	h2c     *h2cConns   // nil unless the backend is spoken to in HTTP/2

	active    atomic.Int64 // requests that hold a connection, or are about to
	waiting   atomic.Int64 // requests in the queue
	freed     chan struct{}
	lastUse   atomic.Int64 // instant
	noReuse   atomic.Int64 // instant until which connections are used once
	idleLimit time.Duration
}

// closeIdle closes what no request uses.
func (p *pool) closeIdle() {
	p.hc.CloseIdleConnections()
	if p.h2c != nil {
		p.h2c.closeIdle()
	}
}

// retire closes what no request uses, and the rest when that ends: the pool is forgotten.
func (p *pool) retire() {
	p.hc.CloseIdleConnections()
	if p.h2c != nil {
		p.h2c.retire()
	}
}

func newPool(s *Server, b *cache.Backend) *pool {
	cfg := s.config()
	p := &pool{srv: s, address: b.Address, freed: make(chan struct{}, 1), idleLimit: cfg.BackendIdleTimeout}
	if b.TLS {
		p.tls = &tls.Config{
			ServerName:         b.ServerName,
			InsecureSkipVerify: b.SkipVerify, //nolint:gosec // The operator asks for it with #tlsVerify=off.
			RootCAs:            cfg.BackendCA,
			NextProtos:         []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		}
	}
	if b.H2C {
		p.h2c = newH2CConns(b.Address)
	}
	p.hc.Addr = b.Address
	p.hc.MaxConns = 1 << 30 // Connections are limited by enter, tunnels by MaxTunnels.
	p.hc.MaxIdleConnDuration = cfg.BackendIdleTimeout
	if p.idleLimit <= 0 {
		p.hc.MaxIdleConnDuration = math.MaxInt64 // fasthttp takes 0 for its own default.
	}
	p.hc.ConnPoolStrategy = fasthttp.LIFO
	p.hc.DialTimeout = func(string, time.Duration) (net.Conn, error) { return newBackendConn(p), nil }
	p.lastUse.Store(int64(now()))
	return p
}

// handshakeError is a failed TLS handshake: the backend is there, so it is not marked dead.
type handshakeError struct{ cause error }

func (e *handshakeError) Error() string { return "tls handshake: " + e.cause.Error() }
func (e *handshakeError) Unwrap() error { return e.cause }

// dialError maps an error of dial.
func dialError(err error) Error {
	var hs *handshakeError
	var ne net.Error
	switch {
	case errors.Is(err, errClientGone):
		return Error{Kind: KindClientGone, Cause: err}
	case errors.As(err, &hs):
		return Error{Kind: KindConnectFailed, Cause: err}
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return Error{Kind: KindConnectTimeout, Cause: err}
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.ENETUNREACH):
		return Error{Kind: KindConnectFailed, Cause: err, mark: true}
	}
	return Error{Kind: KindConnectFailed, Cause: err}
}

// enter takes one of the backend's places. It reports false when all are taken.
//
// The count never exceeds the limit, not even for a moment: another request might look just then, find no place, and
// wait for one that is free.
func (p *pool) enter(limit int) bool {
	for {
		n := p.active.Load()
		if limit > 0 && n >= int64(limit) {
			return false
		}
		if p.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives the place back, wakes a request that waits for one, and returns how many places are taken.
func (p *pool) leave() int64 {
	n := p.active.Add(-1)
	if p.waiting.Load() > 0 {
		p.wake()
	}
	return n
}

func (p *pool) wake() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// connection returns an idle connection that is fit for reuse, or a new one, for x. careful asks for a look at the
// socket even if the connection was idle for no time at all.
func (p *pool) connection(x *exchange, t instant, careful bool) (*backendConn, error) {
	p.lastUse.Store(int64(t))
	for {
		cc, err := p.hc.AcquireConn(0, false)
		if err != nil {
			return nil, err
		}
		bc := cc.Conn().(*backendConn)
		if bc.lease == nil {
			bc.lease = newLease(cc, &p.hc)
		}
		bc.held.Store(true)
		if bc.link == nil {
			if err = x.patiently(bc.open); err != nil {
				bc.drop()
				return nil, err
			}
		}
		if bc.uses == 0 || bc.fit(t, careful) {
			bc.uses++
			bc.buf.acquire(backendBuffer)
			return bc, nil
		}
		p.srv.metrics.deadIdle.Inc()
		bc.drop()
	}
}

// surplus notes that the backend sent bytes that belong to no request: its connections are used once for a while.
func (p *pool) surplus(t instant) {
	p.srv.metrics.surplus.Inc()
	p.noReuse.Store(int64(t.after(surplusPause)))
}

// single reports whether connections are used once at present.
func (p *pool) single() bool {
	until := instant(p.noReuse.Load())
	return until != 0 && until > now() // Fast path: never, so that nobody asks for the time.
}
