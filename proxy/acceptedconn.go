package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"

	"sluice/internal/certs"
)

// acceptedConn is what fasthttp's Server accepts. To it every connection is one that speaks TLS: it calls Handshake on
// a goroutine of its pool and hands the connection over to the protocol that was negotiated, which is always ours.
type acceptedConn struct {
	net.Conn
	link      *link
	rw        net.Conn // the link, or TLS over it
	bind      *boundListener
	addr      netip.Addr // the client: the peer, or whom a PROXY header names
	announced bool       // a PROXY header comes first
	counted   bool       // under MaxConnectionsPerIP
	failed    bool       // nothing can be served
	ours      bool       // a goroutine of ours closes it, not fasthttp

	h2 *h2Conn // if it speaks HTTP/2

	// Between two requests.
	served bool    // it had one
	until  instant // its time for the next one, 0 before it is counted

	// Its place among the server's connections; guarded by the shard's lock.
	prev, next *acceptedConn
	shard      uint8
}

// countIP counts the connection under MaxConnectionsPerIP. It reports false if the address has too many.
func (a *acceptedConn) countIP() bool {
	s := a.bind.srv
	limit := s.config().MaxConnectionsPerIP
	if limit <= 0 {
		return true
	}
	if a.counted = s.conns.beginIP(a.addr, limit); !a.counted {
		s.metrics.limited[limitConnectionsPerIP].Inc()
	}
	return a.counted
}

// Handshake reads the PROXY header and does the TLS handshake, each if there is one, within HeaderTimeout.
func (a *acceptedConn) Handshake() error {
	s := a.bind.srv
	a.ours = true
	defer s.survive("handshake", func() { a.failed = true }) // It calls what chooses certificates, and no fence is around.
	if a.announced {
		a.link.limitRead(now(), s.config().HeaderTimeout)
		if err := a.readProxyHeader(); err != nil {
			s.metrics.proxyHeaders.Inc()
			s.log.Debug("proxy protocol header refused", "peer", a.RemoteAddr().String(), "error", err)
			a.failed = true
		}
		a.failed = a.failed || !a.countIP()
	}
	a.link.client = a.addr
	if t, ok := a.rw.(*tls.Conn); ok && !a.failed {
		if a.failed = !s.mayShake(); a.failed {
			return nil
		}
		a.link.limitRead(now(), s.config().HeaderTimeout)
		if err := t.Handshake(); err != nil {
			s.metrics.handshakes.Inc()
			s.log.Debug("tls handshake failed", "client", a.addr.String(), "error", err)
			a.failed = true
			a.answerPlain(err)
		} else if t.ConnectionState().NegotiatedProtocol == certs.ChallengeProtocol {
			// The handshake was all (RFC 8737 §3): the listener's TLS settings agree to this for a challenge alone.
			_ = t.CloseWrite()
			a.failed = true
		}
	}
	return nil
}

// mayShake counts a TLS handshake under MaxHandshakesPerSecond, and reports whether it fits: what is there already must
// not starve because everybody comes at once.
func (s *Server) mayShake() bool {
	limit := s.config().MaxHandshakesPerSecond
	if limit <= 0 || s.shakes.allow(limit, now()) {
		return true
	}
	s.metrics.limited[limitHandshakes].Inc()
	return false
}

// wrongPort is the answer to plain HTTP on a port that speaks TLS.
const wrongPort = "HTTP/1.1 400 Bad Request\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 38\r\nConnection: close\r\n" +
	"Cache-Control: no-cache\r\nX-Sluice-Error: bad_request\r\n\r\nThis port speaks HTTPS, not plain HTTP"

// answerPlain tells a client that spoke HTTP instead of beginning a handshake.
func (a *acceptedConn) answerPlain(err error) {
	var bad tls.RecordHeaderError
	if !errors.As(err, &bad) || bad.Conn == nil || !isToken(bad.RecordHeader[:3]) {
		return
	}
	a.bind.srv.metrics.errors[KindBadRequest].Inc()
	if _, err := a.link.Write([]byte(wrongPort)); err == nil && a.link.closeWrite() == nil {
		a.link.discard(make([]byte, smallBuffer))
	}
}

// readProxyHeader takes the client's address from the PROXY header. A header without one (LOCAL, UNKNOWN) leaves the
// peer's.
func (a *acceptedConn) readProxyHeader() error {
	br := bufio.NewReaderSize(a.link, smallBuffer)
	if err := awaitProxyLine(br); err != nil {
		return err
	}
	h, err := proxyproto.Read(br)
	if err != nil {
		return err
	}
	if src, _, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() {
		a.addr = src.AddrPort().Addr().Unmap().WithZone("")
	}
	rest, _ := br.Peek(br.Buffered())
	a.link.early = append([]byte(nil), rest...)
	return nil
}

// maxProxyLine is the longest header of version 1, as its specification has it.
const maxProxyLine = 107 // Limit

// awaitProxyLine buffers a header of version 1 to its line end: proxyproto refuses one that it can't read at once, and
// the network may cut it anywhere. What begins otherwise is left to proxyproto.
func awaitProxyLine(br *bufio.Reader) error {
	for n := 1; ; n = br.Buffered() + 1 {
		if _, err := br.Peek(n); err != nil {
			return err
		}
		p, _ := br.Peek(br.Buffered())
		known := min(len(p), len(proxyproto.SIGV1))
		if !bytes.Equal(p[:known], proxyproto.SIGV1[:known]) || len(p) >= maxProxyLine || bytes.IndexByte(p, '\n') >= 0 {
			return nil
		}
	}
}

// ConnectionState names the protocol for fasthttp.
func (a *acceptedConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{NegotiatedProtocol: protoHTTP1}
}

// Close is called by fasthttp when its goroutine is done with the connection. That is no end: serveConn has ended the
// connection by then, or it is parked.
func (a *acceptedConn) Close() error {
	if !a.ours {
		a.end()
	}
	return nil
}

// end closes the connection and counts it out. Whoever owns it calls it, once.
func (a *acceptedConn) end() {
	_ = a.Conn.Close()
	if a.counted {
		a.bind.srv.conns.endIP(a.addr)
	}
	if a.h2 != nil {
		a.bind.srv.h2.remove(a.h2)
	}
	a.bind.srv.conns.end(a)
}

// expire ends a connection that was idle for too long. The farewell of TLS may have to wait for a peer that takes
// nothing.
func (a *acceptedConn) expire() {
	if a.bind.tls == nil {
		a.end()
		return
	}
	go func() {
		_ = a.rw.Close()
		a.end()
	}()
}
