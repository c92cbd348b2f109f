package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// muxConn is a client connection that carries many requests at once, as the proxy sees it: who the client is, which
// streams run, and which names the connection may be used for. The library that speaks the protocol owns the rest.
type muxConn struct {
	srv    *Server
	bind   *boundListener
	client net.Conn // tells certificates who asks
	sni    []byte   // the name that the handshake asked for, in lower case; nil = none
	state  atomic.Pointer[connView]

	mu      sync.Mutex
	streams []*stream
	ended   bool
	empty   *sync.Cond      // the last stream has ended
	names   map[string]bool // whether the certificate covers them; at most maxNames
	leaf    *x509.Certificate
}

// connView is what a configuration makes of a connection. Streams that began before a reload keep theirs.
type connView struct {
	cfg  *Config
	peer peerInfo
}

// newMuxConn makes the connection of the client at addr whose handshake asked for sni; cert is what backends hear of
// its certificate (certFields).
func newMuxConn(s *Server, bind *boundListener, client net.Conn, addr netip.Addr, cert []byte, sni string) *muxConn {
	m := &muxConn{srv: s, bind: bind, client: client}
	m.empty = sync.NewCond(&m.mu)
	if sni != "" {
		m.sni = bytes.ToLower(bytes.TrimSuffix([]byte(sni), []byte(".")))
	}
	peer := newPeerInfo(addr, false, bind.proto(), bind.port)
	peer.cert, peer.altSvc = cert, bind.altSvc
	m.look(s.config(), peer)
	return m
}

// view returns the connection as the present configuration sees it.
func (m *muxConn) view() *connView {
	v := m.state.Load()
	if cfg := m.srv.config(); v.cfg != cfg {
		v = m.look(cfg, v.peer)
	}
	return v
}

func (m *muxConn) look(cfg *Config, p peerInfo) *connView {
	p.trusted, p.covers = trusts(cfg.TrustedProxies, p.addr), m.covers
	v := &connView{cfg: cfg, peer: p}
	m.state.Store(v)
	return v
}

// enter counts a stream in. It reports false when the connection has ended.
func (m *muxConn) enter(st *stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return false
	}
	m.add(st)
	return true
}

// add counts a stream in. m.mu is held.
func (m *muxConn) add(st *stream) {
	st.slot = len(m.streams)
	m.streams = append(m.streams, st)
	m.srv.metrics.streams.Add(1)
}

// leave counts a stream out. Nobody touches its carrier afterwards.
func (m *muxConn) leave(st *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(st)
}

// drop counts a stream out. m.mu is held.
func (m *muxConn) drop(st *stream) {
	last := m.streams[len(m.streams)-1]
	m.streams[st.slot], last.slot = last, st.slot
	m.streams[len(m.streams)-1] = nil
	m.streams = m.streams[:len(m.streams)-1]
	m.srv.metrics.streams.Add(-1)
	if m.ended && len(m.streams) == 0 {
		m.empty.Broadcast()
	}
}

// end waits for the streams of a connection that has ended: each writes its line in the log.
func (m *muxConn) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for len(m.streams) > 0 {
		m.empty.Wait()
	}
}

// sweep ends the streams whose client does not take what is written. It is called every second.
func (m *muxConn) sweep(t instant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, st := range m.streams {
		stalled := st.stalled(t)
		if stalled {
			m.srv.metrics.limited[limitStalledStreams].Inc()
		}
		st.carrier.sweep(t, stalled)
	}
}

// maxNames bounds the names besides the SNI that a connection remembers.
const maxNames = 64 // Limit

// covers reports whether a request for host may come on this connection: host is the name of its handshake, or stands
// in the certificate that it was shown (RFC 9113 §9.1.1). A client that named nobody was not misled by anybody.
func (m *muxConn) covers(host []byte) bool {
	if m.sni == nil || bytes.Equal(host, m.sni) {
		return true // Fast path.
	}
	m.mu.Lock()
	known, asked := m.names[string(host)]
	leaf := m.leaf
	m.mu.Unlock()
	if asked {
		return known
	}
	if leaf == nil {
		leaf = m.bind.certificate(string(m.sni), m.client) // It may ask the store: no lock is held.
	}
	known = leaf != nil && leaf.VerifyHostname(string(host)) == nil
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaf = leaf; m.names == nil {
		m.names = make(map[string]bool)
	}
	if len(m.names) < maxNames {
		m.names[string(host)] = known
	}
	return known
}

// certificate returns what a client is shown in a handshake for a name, nil if nothing is.
func (bl *boundListener) certificate(name string, client net.Conn) *x509.Certificate {
	var cert *tls.Certificate
	if get := bl.tls.GetCertificate; get != nil {
		cert, _ = get(&tls.ClientHelloInfo{
			ServerName: name, Conn: client, SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		})
	}
	if cert == nil && len(bl.tls.Certificates) > 0 {
		cert = &bl.tls.Certificates[0]
	}
	if cert == nil || len(cert.Certificate) == 0 {
		return nil
	}
	if cert.Leaf != nil {
		return cert.Leaf
	}
	leaf, _ := x509.ParseCertificate(cert.Certificate[0])
	return leaf
}
