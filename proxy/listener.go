package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// boundListener is a listener with what its connections need to know. It keeps the limits of connections, and turns a lack
// of file descriptors into a wait: to fasthttp an error of Accept is the end of the listener.
type boundListener struct {
	net.Listener
	srv  *Server
	tls  *tls.Config
	port int
}

func newBoundListener(s *Server, ln net.Listener, b Bind) *boundListener {
	bl := &boundListener{Listener: ln, srv: s, tls: b.TLS}
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		bl.port = a.Port
	}
	return bl
}

func (bl *boundListener) proto() string {
	if bl.tls != nil {
		return "https"
	}
	return "http"
}

// Waits of Accept when the process or the system has run out of something.
const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// Accept waits for room under MaxConnections, then for a connection.
func (bl *boundListener) Accept() (net.Conn, error) {
	for backoff := acceptBackoffMin; ; {
		bl.awaitRoom()
		c, err := bl.Listener.Accept()
		switch {
		case err == nil:
			if a := bl.admit(c); a != nil {
				return a, nil
			}
		case temporary(err):
			bl.srv.metrics.limited[limitDescriptors].Inc()
			bl.srv.log.Warn("accept failed, trying again", "listener", bl.Addr().String(), "error", err, "wait", backoff)
			time.Sleep(backoff)
			backoff = min(2*backoff, acceptBackoffMax)
		case errors.Is(err, net.ErrClosed):
			return nil, io.EOF
		default:
			return nil, err
		}
	}
}

// temporary reports whether Accept may succeed later: descriptors or memory are short, or the client has left the queue.
func temporary(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO,
		syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// awaitRoom waits while MaxConnections are open: new clients wait in the kernel's queue, running ones are unharmed.
func (bl *boundListener) awaitRoom() {
	cs, s := bl.srv.conns, bl.srv
	for waited := false; ; waited = true {
		limit := s.config().MaxConnections
		if limit <= 0 || cs.count() < int64(limit) || s.closing.Load() {
			return
		}
		if !waited {
			s.metrics.limited[limitConnections].Inc()
		}
		cs.freeMu.Lock()
		if cs.count() >= int64(limit) && !s.closing.Load() {
			timer := time.AfterFunc(100*time.Millisecond, cs.freed.Broadcast) // A reload may have raised the limit.
			cs.freed.Wait()
			timer.Stop()
		}
		cs.freeMu.Unlock()
	}
}

// admit makes an accepted connection ours, or closes it and returns nil.
func (bl *boundListener) admit(c net.Conn) *acceptedConn {
	s := bl.srv
	addr := addrOf(c)
	perIP := s.config().MaxConnectionsPerIP
	if perIP > 0 && !s.conns.beginIP(addr, perIP) {
		s.metrics.limited[limitConnectionsPerIP].Inc()
		_ = c.Close()
		return nil
	}
	s.conns.begin()
	s.metrics.connections.Inc()
	l := newLink(c)
	l.writeWindow, l.writeRate = rateSpan, s.config().MinBodyRate
	a := &acceptedConn{Conn: c, link: l, rw: l, bind: bl}
	if perIP > 0 {
		a.counted = addr
	}
	if bl.tls != nil {
		a.rw = tls.Server(l, bl.tls)
	}
	return a
}

// acceptedConn is what fasthttp's Server accepts. To it every connection is one that speaks TLS: it calls Handshake on a
// goroutine of its pool and hands the connection over to the protocol that was negotiated, which is always ours.
type acceptedConn struct {
	net.Conn
	link    *link
	rw      net.Conn
	bind    *boundListener
	counted netip.Addr
	failed  bool
	once    sync.Once
}

// Handshake does the TLS handshake within HeaderTimeout, if the listener speaks TLS.
func (a *acceptedConn) Handshake() error {
	t, ok := a.rw.(*tls.Conn)
	if !ok {
		return nil
	}
	s := a.bind.srv
	a.link.limitRead(now(), s.config().HeaderTimeout)
	if err := t.Handshake(); err != nil {
		s.metrics.handshakes.Inc()
		s.log.Debug("tls handshake failed", "client", a.RemoteAddr().String(), "error", err)
		a.failed = true
	}
	return nil
}

// ConnectionState names the protocol for fasthttp.
func (a *acceptedConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{NegotiatedProtocol: protoHTTP1}
}

// Close closes the connection and counts it out. fasthttp calls it when the connection's goroutine is done with it.
func (a *acceptedConn) Close() error {
	var err error
	a.once.Do(func() {
		err = a.Conn.Close()
		if a.counted.IsValid() {
			a.bind.srv.conns.endIP(a.counted)
		}
		a.bind.srv.conns.end()
	})
	return err
}
