package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// boundListener is a listener with what its connections need to know. It keeps the limits of connections, and turns a
// lack of file descriptors into a wait: to fasthttp an error of Accept is the end of the listener.
type boundListener struct {
	acceptor
	srv           *Server
	tls           *tls.Config
	clientCAs     func() *x509.CertPool // as in Bind
	port          int
	proxyProtocol bool
	altSvc        string // announces HTTP/3
	closed        sync.Once
}

func newBoundListener(s *Server, ln net.Listener, b Bind) *boundListener {
	bl := &boundListener{srv: s, tls: b.TLS, clientCAs: b.ClientCAs, proxyProtocol: b.ProxyProtocol}
	if b.TLS != nil && b.HTTP2 && suitsHTTP2(b.TLS.CipherSuites) {
		bl.tls = b.TLS.Clone()
		bl.tls.NextProtos = []string{protoHTTP2, protoHTTP1}
	}
	bl.tls = followClientCAs(bl.tls, b.ClientCAs)
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		bl.port = a.Port
	}
	bl.altSvc = b.announcement(bl.port)
	bl.open(ln)
	bl.refused = bl.tellRefused
	if err := bl.deferAccept(s.config().DeferAccept); err != nil {
		s.log.Warn("connections are accepted before their clients have sent anything", "listener", ln.Addr().String(),
			"error", err)
	}
	return bl
}

// tellRefused counts a connection that the poller refuses, and logs it once per window.
func (bl *boundListener) tellRefused() {
	s := bl.srv
	s.metrics.limited[limitWatches].Inc()
	if windowBegins(&s.refusedTold) {
		s.log.Warn("connection closed", "listener", bl.Addr().String(), "error", errRefused)
	}
}

// windowBegins reports, once per window of time, true.
func windowBegins(told *atomic.Int64) bool {
	window := int64(now())/int64(logWindow) + 1
	return told.Swap(window) != window
}

func (bl *boundListener) proto() string {
	if bl.tls != nil {
		return "https"
	}
	return "http"
}

// Close ends accepting. Accept closes the listener, too, when it sees the end first: to Shutdown a listener that is
// closed already is no failure.
func (bl *boundListener) Close() (err error) {
	bl.closed.Do(func() { err = bl.acceptor.Close() })
	return err
}

// Waits of Accept when the process or the system has run out of something.
const (
	minAcceptBackoff = 5 * time.Millisecond
	maxAcceptBackoff = time.Second
)

// Accept waits for room under MaxConnections, then for a connection.
func (bl *boundListener) Accept() (net.Conn, error) {
	for backoff := minAcceptBackoff; ; {
		bl.awaitRoom()
		if bl.srv.closing.Load() { // Shutdown may have come before fasthttp knew of the listener.
			_ = bl.Close()
			return nil, io.EOF
		}
		c, err := bl.next()
		switch {
		case err == nil:
			if a := bl.admit(c); a != nil {
				return a, nil
			}
		case temporary(err):
			bl.srv.metrics.limited[limitDescriptors].Inc()
			bl.srv.log.Warn("accept failed, trying again", "listener", bl.Addr().String(), "error", err, "wait", backoff)
			time.Sleep(backoff)
			backoff = min(2*backoff, maxAcceptBackoff)
		case errors.Is(err, net.ErrClosed):
			return nil, io.EOF
		default:
			return nil, err
		}
	}
}

// temporary reports whether Accept may succeed later: descriptors or memory are short, or the client has left the
// queue.
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
			s.tellFull(limit)
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

// tellFull logs, once per window, that new clients wait: nothing else does, as they are not seen before they are
// accepted.
func (s *Server) tellFull(limit int) {
	if windowBegins(&s.fullTold) {
		s.log.Warn("connection limit reached, new clients wait", "server.maxConnections", limit)
	}
}

// admit makes an accepted connection ours, or closes it and returns nil.
func (bl *boundListener) admit(c net.Conn) *acceptedConn {
	s := bl.srv
	l := newLink(c)
	l.limitClient(s.config())
	a := &acceptedConn{Conn: c, link: l, rw: l, bind: bl, addr: addrOf(c)}
	l.client = a.addr
	a.announced = bl.proxyProtocol && s.config().vouchedFor(a.addr)
	if !a.announced && !a.countIP() {
		_ = c.Close()
		return nil
	}
	s.conns.begin(a)
	s.metrics.connections.Inc()
	if bl.tls != nil {
		a.rw = tls.Server(l, bl.tls)
	}
	return a
}

// listeners are those that are served.
type listeners struct {
	mu     sync.Mutex
	list   []*boundListener
	closed bool
}

// add takes a listener in. It reports false after close.
func (ls *listeners) add(bl *boundListener) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return false
	}
	ls.list = append(ls.list, bl)
	return true
}

// remove takes a listener out that is served no more.
func (ls *listeners) remove(bl *boundListener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.list = slices.DeleteFunc(ls.list, func(other *boundListener) bool { return other == bl })
}

// each calls f, which must not wait, for each listener.
func (ls *listeners) each(f func(bl *boundListener)) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, bl := range ls.list {
		f(bl)
	}
}

// close closes all listeners, and those that come later.
func (ls *listeners) close() {
	ls.mu.Lock()
	ls.closed = true
	ls.mu.Unlock()
	ls.each(func(bl *boundListener) { _ = bl.Close() })
}
