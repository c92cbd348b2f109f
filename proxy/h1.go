package proxy

import (
	"io"
	"strconv"
)

// This file is the HTTP/1 form of downstream, on a clientConn.

// wholeBody implements downstream. A body of known length that fits a buffer is read in full first: the backend is not
// kept waiting for a slow client, and the request can be sent again.
func (c *clientConn) wholeBody() ([]byte, bool) {
	if c.bodySize < 0 {
		return nil, false
	}
	return c.buf.b[c.r : c.r+int(c.bodySize)], true
}

// collectBody implements downstream.
func (c *clientConn) collectBody() Error {
	r := &c.x.req
	switch {
	case c.bodySize >= 0:
		return Error{}
	case r.framing != framingLength || r.contentLength > bodyBuffer/2:
		c.keepHead()
		return Error{}
	}
	size := int(r.contentLength)
	have := len(c.buffered())
	if have < size && r.expects {
		c.keepHead()
		return Error{}
	}
	if have < size {
		if e := c.fillBody(size); e.Kind != KindNone {
			return e
		}
	}
	c.bodySize = r.contentLength
	return Error{}
}

// fillBody reads until size bytes of body are buffered.
func (c *clientConn) fillBody(size int) Error {
	if c.w-c.r+len(c.buf.b)-c.w < size {
		c.keepHead()
	}
	for len(c.buffered()) < size {
		if err := c.fillSome(); err != nil {
			return uploadError(err)
		}
	}
	return Error{}
}

// keepHead moves on to another buffer for the body, so that the head stays where its slices point to.
func (c *clientConn) keepHead() {
	if c.kept.b != nil {
		return
	}
	rest := c.buffered()
	c.kept, c.buf = c.buf, buffer{}
	c.buf.acquire(max(bodyBuffer, len(rest)))
	c.r, c.w = 0, copy(c.buf.b, rest)
}

// fillSome reads more of the upload, within BodyIdleTimeout and MinBodyRate.
func (c *clientConn) fillSome() error {
	t, before := now(), c.received
	c.link.limitRead(t, c.x.cfg.BodyIdleTimeout)
	if err := c.fill(); err != nil {
		return err
	}
	if c.upWindow.slow(t.until(now()), c.received-before, c.x.cfg.MinBodyRate) {
		return errSlowPeer
	}
	return nil
}

// readBody implements downstream.
func (c *clientConn) readBody() ([]byte, error) {
	p, err := c.body.ready()
	if len(p) > 0 && err == nil || err != nil {
		return p, err
	}
	t, before := now(), c.received
	c.link.limitRead(t, c.x.cfg.BodyIdleTimeout)
	p, err = c.body.next()
	if err == nil && c.upWindow.slow(t.until(now()), c.received-before, c.x.cfg.MinBodyRate) {
		return nil, errSlowPeer
	}
	return p, err
}

// bodyBytes implements downstream.
func (c *clientConn) bodyBytes() int64 { return max(c.bodySize, 0) + c.body.total }

// bodyBegun implements downstream.
func (c *clientConn) bodyBegun() bool { return len(c.buffered()) > 0 }

// cancelBody implements downstream.
func (c *clientConn) cancelBody() { c.link.interrupt() }

// resumeBody implements downstream.
func (c *clientConn) resumeBody() { c.link.resume() }

// watch implements downstream.
func (c *clientConn) watch() { c.watcher.start() }

// unwatch implements downstream.
func (c *clientConn) unwatch() { c.watcher.stop() }

// trailers implements downstream.
func (c *clientConn) trailers() *head {
	if c.x.req.options {
		c.body.trailer.dropListed(&c.x.req.head)
	}
	return &c.body.trailer
}

// consumeBody drops a whole body from the buffer after the exchange, so that the next request follows.
func (c *clientConn) consumeBody() {
	if c.bodySize >= 0 {
		c.r += int(c.bodySize)
		c.body.err = io.EOF
		c.bodySize = 0
	}
}

// bodyRead reports whether the request was read to its end.
func (c *clientConn) bodyRead() bool { return c.bodySize >= 0 || c.body.done() }

// continueBody implements downstream.
func (c *clientConn) continueBody() error {
	return c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// writeInterim implements downstream. HTTP/1.0 has no interim answers (RFC 9110 §15.2).
func (c *clientConn) writeInterim(r *response) error {
	if c.x.req.http10 {
		return nil
	}
	out := c.appendStatus(c.outBytes(), r)
	out = c.x.appendResponseFields(out, r)
	out = append(out, "\r\n"...)
	c.out = out
	err := c.write(out)
	c.out = c.out[:0]
	return err
}

// outBytes returns the slice that the answer is put together in.
func (c *clientConn) outBytes() []byte {
	if c.out == nil {
		c.outBuf.acquire(smallBuffer)
		c.out = c.outBuf.b[:0]
	}
	return c.out
}

func (c *clientConn) appendStatus(dst []byte, r *response) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, r.start.of(r.b)[9:12]...)
	if len(r.reason) == 0 {
		dst = append(dst, ' ') // RFC 9112 §4: the space stays when the reason is absent.
	}
	dst = append(dst, r.reason...)
	return append(dst, "\r\n"...)
}

// writeHead implements downstream.
func (c *clientConn) writeHead(r *response) error {
	x := &c.x
	c.settleStyle(r)
	out := c.appendStatus(c.outBytes(), r)
	out = x.appendOffer(x.appendResponseFields(out, r), r)
	switch {
	case c.style == styleChunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case r.framing == framingLength || r.keepsLength():
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, r.contentLength, 10)
		out = append(out, "\r\n"...)
	}
	c.out = append(c.appendConnection(out), "\r\n"...)
	return nil
}

// settleStyle decides how the client learns where the body ends, and whether its connection goes on.
func (c *clientConn) settleStyle(r *response) {
	x := &c.x
	switch r.framing {
	case framingNone:
		c.style = styleNone
	case framingLength:
		c.style = styleLength
	default:
		if c.style = styleChunked; x.req.http10 {
			c.style, x.closing = styleClose, true
		}
	}
	x.closing = x.closing || !x.req.keepAlive || c.srv.closing.Load()
}

// appendConnection says whether the connection goes on, where the version does not say it.
func (c *clientConn) appendConnection(dst []byte) []byte {
	switch {
	case c.x.closing && !c.x.req.http10:
		return append(dst, "Connection: close\r\n"...)
	case !c.x.closing && c.x.req.http10:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

// makeRoom makes n bytes fit behind what is held back: in a larger buffer, or by sending first. It reports whether they
// fit.
func (c *clientConn) makeRoom(n int) (fits bool, err error) {
	if len(c.outBytes())+n <= cap(c.out) {
		return true, nil
	}
	if len(c.out)+n > bodyBuffer {
		if err = c.flush(); err != nil || n > bodyBuffer {
			return false, err
		}
	}
	if n > cap(c.out)-len(c.out) {
		held := c.outBuf
		c.outBuf = buffer{}
		c.outBuf.acquire(bodyBuffer)
		c.out = append(c.outBuf.b[:0], c.out...)
		held.release()
	}
	return true, nil
}

// writeBody implements downstream.
func (c *clientConn) writeBody(p []byte) error {
	if c.style == styleNone {
		return nil
	}
	c.x.sentBytes += int64(len(p))
	if c.style == styleChunked {
		return c.writeChunks(p)
	}
	if len(p) >= straightBytes && c.x.resBody.left > 0 {
		if err := c.flush(); err != nil {
			return err
		}
		return c.write(p)
	}
	fits, err := c.makeRoom(len(p))
	switch {
	case err != nil:
		return err
	case !fits:
		return c.write(p)
	}
	c.out = append(c.out, p...)
	return nil
}

// straightBytes is how many bytes it takes for them to be sent from where they lie, if others follow. The end of a body
// never is: it is held back until the backend's connection is free.
const straightBytes = 8 << 10

// writeChunks frames p as chunks that fit a buffer.
func (c *clientConn) writeChunks(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), bodyBuffer-chunkFrame)
		if _, err := c.makeRoom(n + chunkFrame); err != nil {
			return err
		}
		c.out = appendChunk(c.out, p[:n])
		p = p[n:]
	}
	return nil
}

// endBody implements downstream.
func (c *clientConn) endBody(trailers *head) error {
	if c.style != styleChunked {
		return nil
	}
	out := append(c.outBytes(), "0\r\n"...)
	if trailers == nil {
		out = append(out, "\r\n"...)
		c.out = out
		return nil
	}
	c.out = appendTrailers(out, trailers)
	return nil
}

// flush implements downstream.
func (c *clientConn) flush() error {
	if len(c.out) == 0 {
		return c.broken
	}
	c.x.answered.Store(true)
	err := c.write(c.out)
	c.out = c.out[:0]
	return err
}

// write sends p now. The first failure is final.
func (c *clientConn) write(p []byte) error {
	if c.broken != nil {
		return c.broken
	}
	if _, err := c.rw.Write(p); err != nil {
		c.broken, c.x.closing = err, true
	}
	return c.broken
}

// writeOwn implements downstream.
func (c *clientConn) writeOwn(a *ownAnswer) {
	x := &c.x
	x.status = a.status
	x.closing = x.closing || !x.req.keepAlive || c.srv.closing.Load() || !c.bodyRead()
	c.out = c.outBytes()[:0]
	if _, err := c.makeRoom(len(a.body) + ownFields); err != nil {
		return
	}
	c.out = append(c.appendConnection(a.appendHead(c.out, x)), "\r\n"...)
	if !x.req.isHead {
		c.out = append(c.out, a.body...)
		x.sentBytes = int64(len(a.body))
	}
	_ = c.flush()
}
