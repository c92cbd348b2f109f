package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// tunnel passes bytes both ways after a 101, until both sides have finished, one fails, or neither sends anything for
// TunnelIdleTimeout. A route change does not touch it.
func (s *Server) tunnel(x *exchange) Error {
	up, c := x.up, x.down.(*clientConn)
	x.unwatch()
	x.closing = true
	s.metrics.tunnelsTotal.Inc()
	c.keepHead()
	if err := c.writeSwitch(&x.res); err != nil {
		x.letGo(false)
		return Error{Kind: KindClientGone, Cause: err}
	}
	c.out = nil
	c.outBuf.release()
	x.pool.leave() // A tunnel counts under MaxTunnels, not as one of the backend's requests.
	x.pool = nil
	up.wait = nil
	for _, l := range []*link{c.link, up.link} { // A peer that pauses is held to nothing but the limit for silence.
		l.limitWrite(x.cfg.TunnelIdleTimeout, 0)
	}
	t := &tunnel{x: x, idle: int64(x.cfg.TunnelIdleTimeout)}
	t.last.Store(int64(now()))
	t.run(tunnelEnd{link: c.link, rw: c.rw, src: &c.source}, tunnelEnd{link: up.link, rw: up.rw, src: &up.source})
	x.letGo(false)
	c.broken = io.ErrClosedPipe
	return Error{}
}

// writeSwitch sends the head of a 101.
func (c *clientConn) writeSwitch(r *response) error {
	out := c.appendStatus(c.outBytes(), r)
	out = c.x.appendResponseFields(out, r)
	out = appendField(out, "Upgrade: ", r.upgrade)
	out = append(out, "Connection: Upgrade\r\n\r\n"...)
	c.out = out
	return c.flush()
}

// tunnelEnd is one side of a tunnel: its connection, and the bytes that were read off it already.
type tunnelEnd struct {
	link *link
	rw   io.ReadWriter
	src  *source
}

// tunnel is the state that both directions share.
type tunnel struct {
	x    *exchange
	idle int64 // nanoseconds; 0 = no limit
	last atomic.Int64
	down int64 // bytes to the client

	finished atomic.Bool // one side has sent its FIN
}

// run copies both ways and returns when both directions have ended.
func (t *tunnel) run(client, backend tunnelEnd) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.x.srv.survive("tunnel", func() { t.end(false, client, backend) })
		n := t.copy(client, backend)
		t.x.srv.metrics.tunnelBytes[tunnelDown].Add(int(n))
		t.down = n
	}()
	n := t.copy(backend, client)
	t.x.srv.metrics.tunnelBytes[tunnelUp].Add(int(n))
	<-done
	t.x.sentBytes = t.down
}

// copy moves bytes from one end to the other. At a FIN it passes the FIN on and leaves the other direction open; at
// anything worse both ends are ended.
func (t *tunnel) copy(to, from tunnelEnd) (n int64) {
	for {
		p := from.src.buffered()
		if len(p) > 0 {
			m, err := to.rw.Write(p)
			n += int64(m)
			if err != nil {
				// An end that has finished and takes no more has not failed: what it said must still arrive.
				t.end(t.finished.Load() || ended(err), to, from)
				return n
			}
			from.src.consume(len(p))
			t.last.Store(int64(now()))
		}
		switch err := t.fill(from); {
		case err == nil:
		case err == io.EOF && !t.finished.Load() && from.link.events()&hungUp != 0:
			// A reset that the other direction was told of by its write: here it looks like a FIN.
			t.end(false, to, from)
			return n
		case err == io.EOF:
			t.finished.Store(true)
			if closeWrite(to) != nil {
				t.end(true, to, from)
			}
			return n
		default:
			t.end(ended(err), to, from)
			return n
		}
	}
}

const (
	restAfter    = time.Second // an end that is silent for so long gives its buffer back
	tunnelBuffer = bodyBuffer  // and takes one of this size then
)

// fill reads more from an end. The idle limit is for both directions together.
func (t *tunnel) fill(from tunnelEnd) error {
	for {
		at := now()
		left := t.idle - (int64(at) - t.last.Load())
		switch {
		case t.idle <= 0:
			left = 0
		case left <= 0:
			return errTimedOut
		}
		if from.src.buf.b == nil {
			if err := t.rest(from, at, time.Duration(left)); err != nil {
				return err
			}
			continue
		}
		rest := restAfter
		if left > 0 {
			rest = min(rest, time.Duration(left))
		}
		from.link.limitRead(at, rest)
		err := from.src.fill()
		if !errors.Is(err, errTimedOut) {
			return err
		}
		// The other direction may have been busy. This one has nothing unread, else it would not have read.
		from.src.buf.release()
		from.src.r, from.src.w = 0, 0
	}
}

// rest waits for an end to show something, without a buffer. It returns nil when it has one again, or the limit came.
func (t *tunnel) rest(from tunnelEnd, at instant, limit time.Duration) error {
	t.x.srv.resting.Add(1)
	defer t.x.srv.resting.Add(-1)
	from.link.limitRead(at, limit)
	switch saw, err := from.link.await(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return err
	case saw == sightBroken:
		return syscall.ECONNRESET // The look has taken the error off the socket.
	}
	from.src.buf.acquire(tunnelBuffer)
	return nil
}

// ended reports whether an error is of our own making: the idle limit, or a connection that we have closed.
func ended(err error) bool { return errors.Is(err, errTimedOut) || errors.Is(err, net.ErrClosed) }

// end closes both connections. A failure of one is passed on as what it is, by an RST, which nobody takes for the end
// of what was sent.
func (t *tunnel) end(quietly bool, a, b tunnelEnd) {
	for _, e := range []tunnelEnd{a, b} {
		if quietly {
			_ = e.link.Close()
		} else {
			e.link.reset()
		}
	}
}

// closeWrite passes a FIN on.
func closeWrite(e tunnelEnd) error {
	if tc, ok := e.rw.(*tls.Conn); ok {
		if err := tc.CloseWrite(); err != nil {
			return err
		}
		return nil
	}
	return e.link.closeWrite()
}

// beginTunnel takes one of MaxTunnels places. A request that asks for a tunnel holds one from before its backend is
// asked: an answer of 101 that nobody could follow would have cost the backend a session.
func (s *Server) beginTunnel() bool {
	limit := int64(s.config().MaxTunnels)
	if n := s.tunnels.Add(1); limit > 0 && n > limit {
		s.tunnels.Add(-1)
		s.metrics.limited[limitTunnels].Inc()
		return false
	}
	return true
}

func (s *Server) endTunnel() { s.tunnels.Add(-1) }
