package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// backendConn is one connection to a backend. It is what the pool's HostClient makes and keeps; while an exchange holds
// it, it belongs to that exchange alone.
type backendConn struct {
	net.Conn // what fasthttp sees: rw
	source
	link *link    // nil before open
	rw   net.Conn // the link, or TLS over it
	pool *pool
	wait *exchange // whose wait the reads are part of; nil in tunnels

	head buffer // the head of the request, while it is sent

	lease     lease
	held      atomic.Bool // acquired, and neither kept nor dropped since
	uses      int
	suspect   bool // the last answer had no body: look before the next use
	idleSince instant
}

// newBackendConn returns a connection that is not open yet. fasthttp has no way to tell whom it dials for, so that is
// left to the exchange that gets it.
func newBackendConn(p *pool) *backendConn {
	bc := &backendConn{pool: p}
	bc.source.read = bc.readBytes
	return bc
}

// open connects, and does the TLS handshake, within ConnectTimeout. It gives up when ctx ends.
func (bc *backendConn) open(ctx context.Context) error {
	cfg := bc.pool.srv.config()
	if bc.pool.h2c != nil {
		return bc.openBridge(ctx, cfg)
	}
	d := net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 15 * time.Second}
	c, err := d.DialContext(ctx, "tcp", bc.pool.address)
	if err != nil {
		return err
	}
	bc.link = newLink(c)
	bc.rw = bc.link
	if bc.pool.tls != nil {
		bc.link.limitRead(now(), cfg.ConnectTimeout)
		tc := tls.Client(bc.link, bc.pool.tls)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return &handshakeError{err}
		}
		bc.rw = tc
	}
	bc.link.limitWrite(cfg.ResponseTimeout, 0)
	bc.Conn = bc.rw
	return nil
}

// Close closes the connection, if it is open.
func (bc *backendConn) Close() error {
	if bc.Conn == nil {
		return nil
	}
	return bc.Conn.Close()
}

// lease gives a connection back to the HostClient it was acquired from. fasthttp's type for an acquired connection has
// no name outside its package; a generic type can hold it all the same.
type lease interface {
	keep()
	drop()
}

type leaseOf[T any] struct {
	conn T
	hc   interface {
		ReleaseConn(T)
		CloseConn(T)
	}
}

func (l *leaseOf[T]) keep() { l.hc.ReleaseConn(l.conn) }
func (l *leaseOf[T]) drop() { l.hc.CloseConn(l.conn) }

// newLease makes the lease of a connection: one allocation in its life.
func newLease[T any](conn T, hc interface {
	ReleaseConn(T)
	CloseConn(T)
},
) lease {
	return &leaseOf[T]{conn, hc}
}

// fit reports whether an idle connection may carry another request: not too old, not closed, and without bytes that an
// earlier request left behind, which would be taken for the answer.
func (bc *backendConn) fit(t instant, careful bool) bool {
	idle := bc.idleSince.until(t)
	if bc.pool.idleLimit > 0 && idle >= bc.pool.idleLimit {
		return false
	}
	if instant(bc.pool.noReuse.Load()) > t {
		return false
	}
	// Under TLS a read ends with a record, however many more have come.
	if !careful && !bc.filled && !bc.suspect && idle < peekAfter && bc.pool.tls == nil {
		return true // Fast path: the last read emptied the socket, just now.
	}
	saw := bc.link.look()
	if bc.pool.tls != nil && saw != sightBroken {
		saw = bc.lookInside(saw)
	}
	if saw == sightData {
		bc.pool.surplus(t)
	}
	return saw == sightQuiet
}

// tcp reports whether what is read and written are the bytes of the socket.
func (bc *backendConn) tcp() bool { return bc.link != nil && bc.rw == net.Conn(bc.link) }

// lookInside looks for bytes under TLS, where the socket shows records only, by reading without waiting. What is no
// data is a farewell, or too rare between two requests to be worth telling from the beginning of some: it ends the
// connection too.
func (bc *backendConn) lookInside(socket sight) sight {
	bc.link.atOnce = true
	n, err := bc.rw.Read(bc.link.one[:])
	bc.link.atOnce = false
	switch {
	case n > 0:
		return sightData
	case socket == sightQuiet && errors.Is(err, errInterrupted):
		return sightQuiet
	}
	return sightFIN
}

// keep gives the connection back for reuse.
func (bc *backendConn) keep(t instant) {
	if !bc.held.CompareAndSwap(true, false) {
		panic("BUG: backend connection given back twice")
	}
	bc.idleSince = t
	bc.detach()
	bc.lease.keep()
}

// drop closes the connection.
func (bc *backendConn) drop() {
	if !bc.held.CompareAndSwap(true, false) {
		panic("BUG: backend connection given back twice")
	}
	bc.detach()
	bc.lease.drop()
}

// detach lets go of everything that belongs to the exchange.
func (bc *backendConn) detach() {
	bc.wait = nil
	bc.buf.release()
	bc.r, bc.w = 0, 0
}

// readBytes is the source's read function.
func (bc *backendConn) readBytes(p []byte) (int, error) {
	if bc.wait != nil {
		return bc.wait.readBackend(p)
	}
	return bc.rw.Read(p)
}
