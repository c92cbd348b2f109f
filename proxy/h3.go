package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// protoHTTP3 is the protocol's name in TLS (RFC 9114 §3.1).
const protoHTTP3 = "h3"

// Limits of HTTP/3 that need no key. All memory that a connection's uploads may hold lies in its window.
const (
	h3ConnWindow   = h2ConnWindow     // Limit: bytes of uploads in flight on a connection
	h3StreamWindow = h2StreamWindow   // Limit: bytes of one upload in flight
	h3UniStreams   = 8                // Limit: streams for control at once
	quicIdle       = 60 * time.Second // Limit: silence of a client's network
	quicKeepAlive  = 25 * time.Second // below the 30 s after which many a firewall forgets a path
	quicHandshake  = 15 * time.Second // Limit: a handshake, where no time is configured
	quicIDLength   = 8                // bytes of a connection's ids
)

// quicRetryFrom is how many handshakes may be under way before new clients have to show that they are where they say.
const quicRetryFrom = 100 // Limit

// h3Conns are the connections that speak HTTP/3.
type h3Conns struct {
	mu    sync.Mutex
	conns map[*h3Conn]struct{}
}

// all returns the connections that are served.
func (hs *h3Conns) all() []*h3Conn {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	list := make([]*h3Conn, 0, len(hs.conns))
	for c := range hs.conns {
		list = append(list, c)
	}
	return list
}

func (hs *h3Conns) add(c *h3Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.conns == nil {
		hs.conns = make(map[*h3Conn]struct{})
	}
	hs.conns[c] = struct{}{}
}

func (hs *h3Conns) remove(c *h3Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.conns, c)
}

// count returns how many connections are served.
func (hs *h3Conns) count() int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return len(hs.conns)
}

// leave tells every client to take its next requests elsewhere (GOAWAY). What runs goes on.
func (hs *h3Conns) leave() {
	for _, c := range hs.all() {
		c.leave()
	}
}

// cut closes every connection, whatever it is doing.
func (hs *h3Conns) cut() {
	var cuts sync.WaitGroup
	for _, c := range hs.all() {
		cuts.Go(func() { c.end(h3NoError, "") })
	}
	cuts.Wait()
}

// PacketConn is a UDP socket that ServeQUIC can serve, a *net.UDPConn or one that embeds it.
type PacketConn = quic.OOBCapablePacketConn

// ServeQUIC serves HTTP/3 on a socket until Shutdown, and returns ErrServerClosed then. It may be called for several
// sockets, and closes pc. b.TLS must allow TLS 1.3; b.ProxyProtocol has no meaning here. The ids of all connections are
// eight bytes long and begin with tag, by which packets for two processes that share a port can be told apart.
func (s *Server) ServeQUIC(pc PacketConn, b Bind, tag uint16) error {
	defer func() { _ = pc.Close() }()
	q, err := newQUICListener(s, pc, b, tag)
	if err != nil {
		return fmt.Errorf("serve %s over udp: %w", pc.LocalAddr(), err)
	}
	failed := make(chan error, 1)
	go q.accept(failed)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			q.close()
			return ErrServerClosed
		case <-s.quicStop:
			q.close()
			return ErrServerClosed
		case err := <-failed:
			q.close()
			return fmt.Errorf("serve %s over udp: %w", pc.LocalAddr(), err)
		case <-tick.C:
			q.sweep(now())
		}
	}
}

// CutQUIC ends all HTTP/3 at once, for a process whose socket another one reads from: it gets no packets any more.
// Clients open a connection anew.
func (s *Server) CutQUIC() {
	s.h3.cut() // Clients are told before the socket goes.
	s.quicOver.Do(func() { close(s.quicStop) })
}

// quicListener is a UDP socket with what its connections need to know.
type quicListener struct {
	srv       *Server
	bind      *boundListener
	transport *quic.Transport
	listener  *quic.Listener
	half      atomic.Int64 // handshakes under way
	settings  atomic.Pointer[quicSettings]
}

// quicSettings are a configuration in the library's words.
type quicSettings struct {
	cfg  *Config
	quic *quic.Config
}

func newQUICListener(s *Server, pc PacketConn, b Bind, tag uint16) (*quicListener, error) {
	q := &quicListener{srv: s, bind: &boundListener{
		srv: s, tls: followClientCAs(quicTLS(s, b.TLS), b.ClientCAs), clientCAs: b.ClientCAs,
	}}
	if a, ok := pc.LocalAddr().(*net.UDPAddr); ok {
		q.bind.port = a.Port
	}
	var reset quic.StatelessResetKey
	if _, err := rand.Read(reset[:]); err != nil {
		return nil, err
	}
	q.transport = &quic.Transport{
		Conn: pc, ConnectionIDGenerator: quicIDs(tag), StatelessResetKey: &reset,
		VerifySourceAddress: q.doubts, ConnContext: q.admit,
	}
	var err error
	q.listener, err = q.transport.Listen(q.bind.tls, &quic.Config{
		GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) { return q.config(), nil },
	})
	return q, err
}

// quicTLS makes a listener's settings ones for QUIC, which is TLS 1.3 alone (RFC 9001 §4.2).
func quicTLS(s *Server, listener *tls.Config) *tls.Config {
	c := listener.Clone()
	c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{protoHTTP3}
	c.GetConfigForClient = nil // It is for challenges of authorities, which come by TCP (RFC 8737).
	if get := c.GetCertificate; get != nil {
		c.GetCertificate = func(hello *tls.ClientHelloInfo) (cert *tls.Certificate, err error) {
			// No fence of ours is around the library's goroutines.
			defer s.survive("handshake", func() { err = errors.New("no certificate") })
			if _, known := hello.Conn.(knownClient); !known { // covers asks for a connection that stands.
				hello.Conn = knownClient{addr: addrOfUDP(hello.Conn.RemoteAddr())}
			}
			return get(hello)
		}
	}
	return c
}

// config returns what new connections are held to. 0-RTT is not offered: such requests could be sent again by whoever
// saw them (RFC 8470).
func (q *quicListener) config() *quic.Config {
	cfg := q.srv.config()
	if set := q.settings.Load(); set != nil && set.cfg == cfg {
		return set.quic
	}
	handshake := cfg.HeaderTimeout
	if handshake <= 0 {
		handshake = quicHandshake
	}
	set := &quicSettings{cfg, &quic.Config{
		HandshakeIdleTimeout:           handshake / 2, // The library allows the whole handshake twice that.
		MaxIdleTimeout:                 quicIdle,
		KeepAlivePeriod:                quicKeepAlive,
		InitialStreamReceiveWindow:     h3StreamWindow,
		MaxStreamReceiveWindow:         h3StreamWindow,
		InitialConnectionReceiveWindow: h3ConnWindow,
		MaxConnectionReceiveWindow:     h3ConnWindow,
		MaxIncomingStreams:             int64(cfg.MaxStreams),
		MaxIncomingUniStreams:          h3UniStreams,
		RequireStreamCreditRelease:     true,
		Allow0RTT:                      false,
	}}
	q.settings.Store(set)
	return set.quic
}

// doubts reports whether a client has to show that it is where its packets say, which costs it a round trip (RFC 9000
// §8.1.2): many handshakes are under way, there is little room for more, or its address has all the connections that it
// may have, those included that only claim to come from there. Whoever sends in others' names can use up none of these
// limits.
func (q *quicListener) doubts(a net.Addr) bool {
	s, cfg := q.srv, q.srv.config()
	doubt := q.half.Load() >= quicRetryFrom ||
		cfg.MaxHandshakesPerSecond > 0 && s.shakes.used(now()) >= cfg.MaxHandshakesPerSecond/2 ||
		cfg.MaxConnectionsPerIP > 0 && s.conns.claimedIP(addrOfUDP(a)) >= cfg.MaxConnectionsPerIP
	if doubt {
		s.metrics.h3Retries.Inc()
	}
	return doubt
}

var errQUICRefused = errors.New("refused")

// quicArrival is a connection from its first packet to its end.
type quicArrival struct {
	addr    netip.Addr  // the client's, or somebody's in whose name it sends
	claims  bool        // it is counted as one that only says so
	counted bool        // under MaxConnectionsPerIP, by whoever may count it out
	half    sync.Once   // ends the handshake
	gone    atomic.Bool // it is being counted out, or will be by serve
}

type quicArrivalKey struct{}

// admit decides on a new connection, before its handshake. A client that is refused is told so at once, and goes on
// over TCP, where it may wait.
func (q *quicListener) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	s, cfg := q.srv, q.srv.config()
	a := &quicArrival{addr: addrOfUDP(info.RemoteAddr)}
	switch {
	case s.closing.Load():
		return nil, errQUICRefused
	case cfg.MaxConnections > 0 && s.conns.count() >= int64(cfg.MaxConnections):
		s.metrics.limited[limitConnections].Inc()
		s.tellFull(cfg.MaxConnections)
		return nil, errQUICRefused
	case info.AddrVerified && !q.countIP(a):
		return nil, errQUICRefused
	case !s.mayShake():
		q.uncountIP(a)
		return nil, errQUICRefused
	}
	if a.claims = !info.AddrVerified && cfg.MaxConnectionsPerIP > 0; a.claims {
		s.conns.beginClaim(a.addr)
	}
	q.half.Add(1)
	s.conns.open.Add(1)
	ctx = context.WithValue(ctx, quicArrivalKey{}, a)
	context.AfterFunc(ctx, func() { q.depart(ctx, a) })
	return ctx, nil
}

// countIP counts a connection under MaxConnectionsPerIP, once its client has shown that it is where its packets say. It
// reports false if the address has too many.
func (q *quicListener) countIP(a *quicArrival) bool {
	s := q.srv
	limit := s.config().MaxConnectionsPerIP
	if limit <= 0 || a.counted {
		return true
	}
	if a.counted = s.conns.beginIP(a.addr, limit); !a.counted {
		s.metrics.limited[limitConnectionsPerIP].Inc()
	}
	return a.counted
}

func (q *quicListener) uncountIP(a *quicArrival) {
	if a.counted {
		q.srv.conns.endIP(a.addr)
	}
}

// shaken ends a handshake, whatever came of it.
func (q *quicListener) shaken(a *quicArrival) {
	a.half.Do(func() {
		q.half.Add(-1)
		if a.claims {
			q.srv.conns.endClaim(a.addr)
		}
	})
}

// depart counts a connection out when its context has ended, which may be before it was served.
func (q *quicListener) depart(ctx context.Context, a *quicArrival) {
	s := q.srv
	q.shaken(a)
	if a.gone.Swap(true) {
		return // serve counts it out, after its last request.
	}
	q.countOut(a)
	if !s.closing.Load() {
		s.metrics.handshakes.Inc()
		s.log.Debug("quic handshake failed", "client", a.addr.String(), "error", context.Cause(ctx))
	}
}

func (q *quicListener) countOut(a *quicArrival) {
	q.uncountIP(a)
	q.srv.conns.open.Add(-1)
	q.srv.conns.freed.Broadcast()
}

// accept serves the connections whose handshake is done.
func (q *quicListener) accept(failed chan<- error) {
	for {
		qc, err := q.listener.Accept(context.Background())
		if err != nil {
			failed <- err
			return
		}
		go q.serve(qc)
	}
}

// serve answers the requests of one connection.
func (q *quicListener) serve(qc *quic.Conn) {
	s := q.srv
	a, _ := qc.Context().Value(quicArrivalKey{}).(*quicArrival)
	if a.gone.Swap(true) {
		return // It has ended already.
	}
	defer q.countOut(a)
	defer s.survive("connection", func() { _ = qc.CloseWithError(h3InternalError, "") })
	fits := q.countIP(a)
	q.shaken(a) // Not before: it would count nowhere for a moment.
	if !fits {
		_ = qc.CloseWithError(h3ExcessiveLoad, "too many connections")
		return
	}
	c := newH3Conn(s, qc, q.bind)
	s.h3.add(c)
	defer s.h3.remove(c)
	s.metrics.connections.Inc()
	s.metrics.h3Connections.Inc()
	c.serve()
}

// sweep looks after the connections of all sockets: they share what is to be done.
func (q *quicListener) sweep(t instant) {
	for _, c := range q.srv.h3.all() {
		if c.mux.bind != q.bind {
			continue
		}
		if q.srv.closing.Load() {
			c.leave() // Its handshake may have ended after all others were told.
		}
		c.sweep(t)
	}
}

// close gives the socket up. Connections that are left end without a word.
func (q *quicListener) close() {
	_ = q.listener.Close()
	_ = q.transport.Close()
}

// quicIDs makes the ids of connections: a tag that is the same in all of them, and six bytes that nobody can guess.
type quicIDs uint16

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (g quicIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var b [quicIDLength]byte
	if _, err := rand.Read(b[:]); err != nil {
		return quic.ConnectionID{}, err
	}
	binary.BigEndian.PutUint16(b[:], uint16(g))
	return quic.ConnectionIDFromBytes(b[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (quicIDs) ConnectionIDLen() int { return quicIDLength }

// knownClient stands for a client's connection where only its address is asked for.
type knownClient struct {
	net.Conn
	addr netip.Addr
}

// ClientAddr returns the client's address. It is for those who choose certificates.
func (k knownClient) ClientAddr() netip.Addr { return k.addr }

func addrOfUDP(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
