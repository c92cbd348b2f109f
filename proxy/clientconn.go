package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// clientConn is one client connection: it reads requests one after another and is the HTTP/1 form of downstream
// (h1.go). It belongs to one goroutine; only link.interrupt and link.Close may be used by others.
type clientConn struct {
	source
	link *link
	rw   net.Conn // the link, or TLS over it
	srv  *Server
	peer peerInfo
	x    exchange

	out    []byte // bytes of the answer that were not sent yet
	outBuf buffer
	broken error // a write failed; nothing more is written

	kept     buffer // the buffer that holds the request's head while its body streams through another one
	body     body   // the request's body
	bodySize int64  // length of the request's body if all of it is in memory, else -1
	received int64  // bytes read off the connection
	upWindow rateWindow
	style    bodyStyle
	watcher  watch

	conn  *acceptedConn
	stays bool // it can't be parked
	turn  turn
}

// bodyStyle is how the answer's body is delimited for the client.
type bodyStyle uint8

const (
	styleNone bodyStyle = iota // no body, whatever the head says
	styleLength
	styleChunked
	styleClose // HTTP/1.0: until the connection ends
)

var clientConns = sync.Pool{New: func() any {
	c := &clientConn{}
	c.source.read = c.readBytes
	c.x.down, c.x.peer = c, &c.peer
	c.watcher.init(&c.x)
	c.x.upload.init(&c.x)
	return c
}}

// acquireClientConn returns a clientConn for an accepted connection.
func acquireClientConn(s *Server, a *acceptedConn) *clientConn {
	c := clientConns.Get().(*clientConn)
	c.srv, c.link, c.rw, c.x.srv = s, a.link, a.rw, s
	c.x.cfg, c.watcher.link = s.config(), a.link
	c.link.limitClient(c.x.cfg) // A reload may have come since it was accepted, or while it was parked.
	c.conn, c.broken, c.stays, c.turn, c.x.company = a, nil, a.link.raw == nil, turn{}, 0
	c.x.end = 0
	c.peer = newPeerInfo(a.addr, trusts(c.x.cfg.TrustedProxies, a.addr), a.bind.proto(), a.bind.port)
	c.peer.cert, c.peer.altSvc = a.clientCertFields(), a.bind.altSvc
	return c
}

// configure takes up a configuration that came since the last request. The peer's trust follows from it, so that one
// who is withdrawn from TrustedProxies does not go on forging through a connection that is open already.
func (c *clientConn) configure() {
	cfg := c.srv.config()
	if cfg == c.x.cfg {
		return // Fast path: nothing was reloaded.
	}
	c.link.limitClient(cfg)
	c.x.cfg, c.peer.trusted = cfg, trusts(cfg.TrustedProxies, c.peer.addr)
}

// release gives c back to the pool, if it may be used again. Its buffers are gone already.
func (c *clientConn) release() {
	if !c.x.reusable() {
		return
	}
	c.buf.release()
	c.kept.release()
	c.outBuf.release()
	c.r, c.w, c.out = 0, 0, nil
	c.conn, c.link, c.rw, c.srv, c.x.cfg, c.x.srv, c.watcher.link = nil, nil, nil, nil, nil, nil, nil
	clientConns.Put(c)
}

// wait is how waiting for a request has ended.
type wait uint8

const (
	waitBegun wait = iota // a request has begun
	waitIdle              // none has, for a while: the connection may be parked
	waitEnded             // the connection has ended
)

// serve answers requests until the connection has ended or is idle.
func (c *clientConn) serve() wait {
	for {
		switch w := c.awaitRequest(); w {
		case waitIdle:
			return w
		case waitEnded:
			c.close()
			return w
		}
		c.srv.handle(&c.x)
		c.finishMessage()
		if c.x.closing || c.broken != nil {
			c.linger()
			c.close()
			return waitEnded
		}
	}
}

// awaitRequest reads the next request's head. One that can't be accepted is a request whose x.err is set.
func (c *clientConn) awaitRequest() wait {
	x := &c.x
	x.begin()
	c.configure()
	if c.buf.b == nil {
		c.buf.acquire(smallBuffer)
	}
	c.compact()
	if w := c.awaitBegin(); w != waitBegun {
		return w
	}
	c.conn.served, c.conn.until = true, 0
	c.configure() // A reload may have come while the connection was idle.
	x.start = now()
	n, bad, err := c.readHead()
	switch {
	case errors.Is(err, errTimedOut):
		x.err = failed(KindRequestTimeout)
	case err != nil:
		return waitEnded
	case bad != 0:
		x.err = failed(bad)
	default:
		x.err.Kind = x.req.judge()
	}
	c.startBody(n)
	return waitBegun
}

// awaitBegin waits for a request to begin. Empty lines are none: clients of old send one behind a body (RFC 9112 §2.2).
func (c *clientConn) awaitBegin() wait {
	for empty := &c.x.req.empty; ; *empty++ { // The head's scan goes on counting.
		if len(c.buffered()) == 0 {
			if w := c.awaitFirstByte(); w != waitBegun {
				return w
			}
		}
		if *empty == maxEmptyLines || !bytes.HasPrefix(c.buffered(), []byte("\r\n")) {
			return waitBegun
		}
		c.consume(2)
	}
}

// awaitFirstByte waits for bytes of the next request. Its time is counted from the end of the last one, however often
// the connection is parked meanwhile.
func (c *clientConn) awaitFirstByte() wait {
	t := c.x.end
	if t == 0 {
		t = now() // Slow path: the first one here.
	}
	if c.conn.until == 0 {
		limit := c.x.cfg.IdleTimeout
		if !c.conn.served {
			limit = c.x.cfg.HeaderTimeout
		}
		c.conn.until = never
		if limit > 0 {
			c.conn.until = t.after(limit)
		}
	}
	left := t.until(c.conn.until)
	if left <= 0 {
		return waitEnded
	}
	parks := !c.stays && left > c.srv.idle.after
	switch {
	case parks:
		left = c.srv.idle.after
	case c.conn.until == never:
		left = 0
	}
	c.link.limitRead(t, left)
	switch err := c.fillInTurn(); {
	case err == nil:
		return waitBegun
	case parks && errors.Is(err, errTimedOut):
		return waitIdle
	}
	return waitEnded
}

// fillInTurn lets other connections go first where that pays.
func (c *clientConn) fillInTurn() error {
	turned := c.conn.served && c.turn.take(c.x.company)
	err := c.fill()
	if turned {
		c.turn.learn(!c.link.waited)
	}
	return err
}

// readHead reads up to the end of the head, within HeaderTimeout from its first byte.
func (c *clientConn) readHead() (n int, bad Kind, err error) {
	rules := headRules{maxBytes: c.x.cfg.MaxHeaderBytes, maxFields: c.x.cfg.MaxHeaderFields}
	if n, bad = c.x.req.scan(c.buffered(), &rules); n > 0 || bad != 0 {
		return n, bad, nil // Fast path: it came in one piece.
	}
	c.link.limitRead(c.x.start, c.x.cfg.HeaderTimeout)
	return c.scanHead(&c.x.req.head, &rules)
}

// readBytes is the source's read function.
func (c *clientConn) readBytes(p []byte) (int, error) {
	n, err := c.rw.Read(p)
	c.received += int64(n)
	return n, err
}

// startBody places the body reader behind the head, which stays in the buffer until the exchange is finished.
func (c *clientConn) startBody(n int) {
	c.r += n
	x := &c.x
	c.upWindow = rateWindow{}
	c.body.start(&c.source, x.req.framing, x.req.contentLength)
	c.body.limit = c.x.cfg.MaxBodyBytes
	switch {
	case x.req.framing == framingNone || x.err.Kind != KindNone:
		c.bodySize = 0
	case x.req.framing == framingLength && x.req.contentLength <= int64(len(c.buffered())):
		c.bodySize = x.req.contentLength
	default:
		c.bodySize = -1
	}
}

// finishMessage forgets the request. What the client sent behind it stays in the buffer.
func (c *clientConn) finishMessage() {
	c.consumeBody()
	if c.kept.b != nil {
		c.kept.release()
	}
	c.out = nil
	c.outBuf.release()
	if len(c.buf.b) > smallBuffer && c.w-c.r <= smallBuffer {
		c.shrink()
	}
}

// shrink moves the unread bytes to a small buffer.
func (c *clientConn) shrink() {
	old, rest := c.buf, c.buffered()
	c.buf = buffer{}
	if len(rest) > 0 {
		c.buf.acquire(smallBuffer)
	}
	c.r, c.w = 0, copy(c.buf.b, rest)
	old.release()
}

// linger ends the answer with a FIN and drops what the client still sends.
func (c *clientConn) linger() {
	if c.broken != nil {
		return
	}
	switch c.link.look() {
	case sightFIN, sightBroken:
		return // Fast path: nothing is on its way any more.
	case sightQuiet:
		if c.body.done() && len(c.buffered()) == 0 && !c.x.lingers() {
			return // Fast path: nothing is to be expected.
		}
	}
	if t, ok := c.rw.(*tls.Conn); ok {
		_ = t.CloseWrite()
	} else {
		_ = c.link.closeWrite()
	}
	if c.buf.b == nil {
		c.buf.acquire(smallBuffer)
	}
	c.link.discard(c.buf.b)
}

// close closes the connection.
func (c *clientConn) close() {
	if c.broken != nil {
		_ = c.link.Close() // Under TLS: a farewell could wait for a peer that takes nothing.
		return
	}
	_ = c.rw.Close()
}

// abort implements downstream: an RST, which no client takes for the end of a message.
func (c *clientConn) abort() {
	c.x.closing = true
	if c.broken == nil {
		c.broken = io.ErrClosedPipe
	}
	c.link.reset()
}

// rateWindow measures a client's upload against MinBodyRate. Only the time counts for which the client is waited for:
// that a backend takes its time is none of the client's doing.
type rateWindow struct {
	waited time.Duration
	bytes  int64 // as they came, framing included
}

// rateSpan is the time over which MinBodyRate is measured.
const rateSpan = 30 * time.Second

// slow adds n bytes that were waited for and reports whether the client is slower than rate. A window ends well when
// the bytes have come that rate asks of it; then the next begins. One that lasts too long is the end.
func (w *rateWindow) slow(wait time.Duration, n int64, rate int) bool {
	w.waited += wait
	w.bytes += n
	if float64(w.bytes) >= float64(rate)*rateSpan.Seconds() {
		*w = rateWindow{}
	}
	return w.waited >= rateSpan
}

// limitClient holds a client that does not take its answers to MinBodyRate.
func (l *link) limitClient(cfg *Config) {
	if cfg.MinBodyRate > 0 {
		l.limitWrite(rateSpan, cfg.MinBodyRate)
	} else {
		l.limitWrite(0, 0)
	}
}
