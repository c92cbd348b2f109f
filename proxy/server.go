package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"sluice/cache"
	"sluice/internal/accesslog"
	"sluice/internal/pages"
)

// Deps is what a Server works with. Routes, Log, Metrics and Pages must be set; a nil AccessLog logs nothing.
type Deps struct {
	Routes    *cache.Cache
	Log       *slog.Logger
	AccessLog *accesslog.Writer
	Metrics   *metrics.Set
	Pages     *pages.Set
	// Challenge returns the answer to an HTTP-01 challenge (RFC 8555 §8.3) of a host, or nil if there is none that we
	// know of. It may wait for the store; token is a path from a client, unchecked. Nil means that there is never one.
	Challenge func(host, token []byte, client netip.Addr) []byte
}

// Bind says how a listener is served.
type Bind struct {
	TLS *tls.Config // nil for plain HTTP. Its callbacks may change certificates while it is served.

	// ClientCAs returns the authorities that clients' certificates may come from, nil to ask for none. It counts instead
	// of what TLS says, anew for each handshake; it must be safe for concurrent use and return the same pool as long as
	// nothing changes. Nil leaves it to TLS.
	ClientCAs func() *x509.CertPool

	HTTP2 bool // offer HTTP/2 beside HTTP/1.1; with TLS only

	// HTTP3 says that ServeQUIC serves the same port over UDP: answers announce it (Config.AltSvc). With TLS only.
	HTTP3 bool

	// ProxyProtocol says that load balancers announce their clients with a PROXY protocol header, version 1 or 2, before
	// anything else. It is taken from peers in Config.TrustedProxies, if the operator set them, and from loopback; other
	// peers are clients.
	ProxyProtocol bool
}

// Server serves HTTP on any number of listeners. Its methods are safe for concurrent use.
type Server struct {
	routes  *cache.Cache
	log     *slog.Logger
	access  *accesslog.Writer
	pages   *pages.Set
	metrics *proxyMetrics

	challenge func(host, token []byte, client netip.Addr) []byte

	cfg   atomic.Pointer[Config]
	conns *connections
	idle  *parking
	slack slack // the sweep's
	pools pools
	edge  fasthttp.Server
	bound listeners
	h2    h2Conns
	h3    h3Conns

	workers streamWorkers

	rotation rotation
	budget   budget
	throttle throttle     // of lines about failed exchanges
	deaths   throttle     // of lines about dead backends; by KindNone those that a status killed
	panics   throttle     // of lines about panics, all by KindInternal
	fullTold atomic.Int64 // window of the last line about MaxConnections
	// refusedTold is that of the last line about a connection that the poller refused.
	refusedTold atomic.Int64
	tunnels     atomic.Int64
	shakes      secondLimit
	resting     atomic.Int64 // ends of tunnels that have given their buffers back

	draining    atomic.Bool // pings answer 503
	closing     atomic.Bool // connections end with their next answer
	hardClosing atomic.Bool // connections have been cut
	stop        chan struct{}
	stopOnce    sync.Once
	quicStop    chan struct{} // HTTP/3 ends alone
	quicOver    sync.Once
	sweeper     sync.WaitGroup
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("proxy: server closed")

// New returns a Server that serves nothing yet. Close or Shutdown ends its background work.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: configuration: %w", err)
	}
	s := &Server{
		routes: d.Routes, log: d.Log, access: d.AccessLog, pages: d.Pages, challenge: d.Challenge,
		conns: newConnections(), stop: make(chan struct{}), quicStop: make(chan struct{}),
	}
	s.cfg.Store(&cfg)
	var err error
	if s.idle, err = newParking(s.carry); err != nil {
		return nil, err
	}
	s.slack.init()
	s.pools.m, s.pools.srv = make(map[string]*pool), s
	s.metrics = newProxyMetrics(d.Metrics, s)
	s.edge = fasthttp.Server{
		Name: "sluice",
		// Limit: MaxConnections is kept by the listener, which waits instead of refusing.
		Concurrency:           maxConcurrency,
		Logger:                fasthttpLog{s.log},
		SecureErrorLogMessage: true,
		MaxIdleWorkerDuration: parkAfter, // The stacks of goroutines that were left by their connections.
		Handler:               func(*fasthttp.RequestCtx) { panic("BUG: fasthttp parsed a request") },
	}
	s.edge.NextProto(protoHTTP1, s.serveConn)
	s.sweeper.Add(2)
	go s.sweep()
	go s.sweepH2()
	return s, nil
}

// maxConcurrency is above any MaxConnections: fasthttp answers and closes what exceeds its own limit.
const maxConcurrency = 1 << 24

func (s *Server) config() *Config { return s.cfg.Load() }

// Reload puts another configuration into effect for new requests; requests in flight keep theirs. Connections stay. The
// old one stays in effect if the new one is not valid.
func (s *Server) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("proxy: configuration: %w", err)
	}
	old := s.cfg.Swap(&cfg)
	if old.BackendIdleTimeout != cfg.BackendIdleTimeout || !old.BackendCA.Equal(cfg.BackendCA) {
		s.pools.renew()
	}
	return nil
}

// Serve accepts connections on ln until Shutdown, and returns ErrServerClosed then. It may be called for several
// listeners, which must be of TCP. It takes ln over: to close ln itself may not end Serve, but Close does.
func (s *Server) Serve(ln net.Listener, b Bind) error {
	bl := newBoundListener(s, ln, b)
	if s.closing.Load() || !s.bound.add(bl) {
		_ = bl.Close()
		return ErrServerClosed
	}
	defer s.bound.remove(bl)
	if s.draining.Load() {
		_ = bl.deferAccept(false) // BeginDrain may have come before the listener was there.
	}
	err := s.edge.Serve(bl)
	if s.closing.Load() {
		return ErrServerClosed
	}
	if err != nil {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// protoHTTP1 is the protocol under which fasthttp hands connections over, as TLS names it (RFC 7301).
const protoHTTP1 = "http/1.1"

// serveConn serves one accepted connection on a goroutine of fasthttp's pool. The handshake, if any, is done.
func (s *Server) serveConn(nc net.Conn) error {
	a := nc.(*acceptedConn)
	if t, ok := a.rw.(*tls.Conn); ok && !a.failed && t.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		s.serveH2(a, t)
		return nil
	}
	s.carry(a)
	return nil
}

// carry serves a connection until it ends or is idle and parked; another goroutine carries on with it then.
func (s *Server) carry(a *acceptedConn) {
	if a.failed {
		a.end()
		return
	}
	defer s.survive("connection", func() { // The clientConn is not used again: its state is anybody's guess.
		a.link.reset()
		a.end()
	})
	if a.h2 != nil {
		a.h2.carry()
		return
	}
	c := acquireClientConn(s, a)
	for c.serve() == waitIdle {
		if s.idle.park(a, a.until) {
			c.release()
			return
		}
		c.stays = true
	}
	c.release()
	a.end()
}

// Requests returns how many requests were finished, over all connections. It may be called at any time.
func (s *Server) Requests() uint64 { return s.metrics.tally.requests() }

// BeginDrain makes pings answer 503, so that load balancers turn away. Accepting goes on.
func (s *Server) BeginDrain() {
	s.draining.Store(true)
	// What is left to the kernel would be lost at the end of accepting.
	s.bound.each(func(bl *boundListener) { _ = bl.deferAccept(false) })
}

// Shutdown stops accepting and waits for what is under way. Every connection ends with its next answer; one that waits
// for a request is left open, since a request may be on its way to us. When ctx ends, connections that are left are cut
// and ctx's error is returned. Without a BeginDrain before it pings answer 200 to the end, for a process whose
// listeners another one serves on.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	s.h2.shutdown()
	s.h3.leave()
	err := s.edge.ShutdownWithContext(ctx)
	if err == nil {
		err = s.awaitParked(ctx)
	}
	if err != nil {
		s.cut()
	}
	s.Close()
	return err
}

// awaitParked waits until the connections that fasthttp does not know of any more have ended.
func (s *Server) awaitParked(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.conns.count() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// cutTime is how long connections have to end after they were cut.
const cutTime = 2 * time.Second

// cut closes every connection and waits until their goroutines have finished, so that their requests are logged.
func (s *Server) cut() {
	s.hardClosing.Store(true)
	for deadline := time.Now().Add(cutTime); time.Now().Before(deadline) && s.conns.count() > 0; {
		s.idle.cut()
		s.conns.cut()
		s.h2.cut()
		s.h3.cut()
		time.Sleep(5 * time.Millisecond)
	}
}

// Close ends accepting, the background work and the idle connections to backends. It is part of Shutdown.
func (s *Server) Close() {
	s.bound.close()
	s.stopOnce.Do(func() { close(s.stop) })
	s.sweeper.Wait()
	s.workers.close()
	s.idle.close()
	s.pools.closeIdle()
}

// How often idle client connections are looked at for those that were idle for too long, and pools for those that
// nobody uses any more.
const (
	sweepEvery      = time.Second
	sweepPoolsEvery = 10 * sweepEvery
)

func (s *Server) sweep() {
	defer s.sweeper.Done()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for turn := 1; ; turn++ {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		t := now()
		s.idle.sweep(t)
		s.slack.settle(t, s.held(s.conns.count()), s.held(s.conns.crowd()))
		if turn%int(sweepPoolsEvery/sweepEvery) == 0 {
			s.pools.sweep(t)
		}
	}
}

// fasthttpLog passes what fasthttp has to say to the operational log.
type fasthttpLog struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l fasthttpLog) Printf(format string, args ...any) {
	l.log.Warn("fasthttp: " + fmt.Sprintf(format, args...))
}
