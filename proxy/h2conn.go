package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Limits of HTTP/2 that need no key. All memory that a connection's uploads may hold lies in its window.
const (
	h2ConnWindow   = 1 << 20   // Limit: bytes of uploads in flight on a connection
	h2StreamWindow = 512 << 10 // Limit: bytes of one upload in flight
	h2FrameSize    = 16 << 10  // Limit: a frame, either way
	h2OutLimit     = 32 << 10  // Limit: bytes of answers that wait for the writer
	h2OutMax       = 256 << 10 // Limit: those, and what has to be said to a client that does not read
	h2LateStreams  = 256       // Limit: streams that are remembered as reset: frames for them may be on their way
	h2WaitFactor   = 4         // Limit: requests that wait for a place, as a multiple of MaxStreams
	h2BlockFactor  = 4         // Limit: bytes of a compressed head, as a multiple of MaxHeaderBytes
)

// lingerer is a stream that has its answer, whole, while its client still sends the request.
type lingerer struct {
	id    uint32
	since instant
}

// h2Wire is what frames travel on: TLS.
type h2Wire interface {
	io.ReadWriter
	CloseWrite() error
}

// h2Conn is a client connection that speaks HTTP/2 (RFC 9113). Three kinds of goroutines share it: one reads frames,
// one writes while there is something to be written, and each request has a worker. mu guards what they share. Nobody
// who holds it waits for anything.
type h2Conn struct {
	*muxConn
	source // of the reader
	wire   h2Wire
	link   *link
	conn   *acceptedConn
	cfg    *Config // as the connection was accepted

	// Of the reader.
	decoder  *hpack.Decoder
	fields   streamHead
	block    []byte       // of a head that comes in several frames
	opening  h2Frame      // the HEADERS frame that a block began with, without its payload
	selfish  bool         // it made its stream depend on itself
	prefaced bool         // the preface has come
	inBlock  bool         // CONTINUATION must follow
	greeted  bool         // the client's SETTINGS have come
	whole    bool         // a frame has come in full since the last read
	headFrom atomic.Int64 // instant when a head began that has not ended yet; 0 = none

	// Guarded by mu.
	byID       map[uint32]*h2Stream
	lastID     uint32 // the client's highest stream
	open       int    // streams that count under MaxStreams
	running    int    // requests that have a worker
	waiting    []*h2Stream
	late       []uint32 // streams that we reset, the last h2LateStreams of them in a ring
	lateNext   int
	lingering  []lingerer // the oldest first
	recvWindow int32
	unacked    int32
	meter      floodMeter

	table         fieldTable
	out           []byte // frames for the writer
	outBuf        buffer
	writing       bool // the writer runs
	sendWindow    int64
	initialWindow int64
	queue         []*h2Stream // whose jobs wait for room or the connection's window
	dead          bool        // nothing can be written any more

	begun     instant
	idleFrom  instant // since when there is no request; 0 = there are some
	acked     bool    // our SETTINGS
	leaving   instant // when the client was told to leave
	left      bool    // it was told which request was the last one
	closing   instant // when the connection was to end as soon as all is written; 0 = it goes on
	parked    bool    // nobody reads
	stays     bool    // it can't be parked
	writeLoop func()
	written   chan struct{} // the writer has ended, and the connection is to end
}

// newH2Conn makes a connection of an accepted one. sni is the name that the handshake asked for.
func newH2Conn(s *Server, a *acceptedConn, wire h2Wire, sni string) *h2Conn {
	c := &h2Conn{
		muxConn: newMuxConn(s, a.bind, a.link, a.addr, a.clientCertFields(), sni),
		link:    a.link, conn: a, wire: wire, cfg: s.config(),
		byID: make(map[uint32]*h2Stream), recvWindow: h2ConnWindow, sendWindow: minWindow, initialWindow: minWindow,
		begun: now(), written: make(chan struct{}), stays: a.link.raw == nil,
	}
	c.idleFrom = c.begun
	c.source.read = wire.Read
	c.decoder = hpack.NewDecoder(maxFieldTable, func(f hpack.HeaderField) { c.fields.take(f.Name, f.Value) })
	c.table.init()
	c.writeLoop = c.write
	c.headFrom.Store(int64(c.begun)) // The preface.
	return c
}

// carry serves the connection until it ends, or is idle and parked; another goroutine carries on with it then.
func (c *h2Conn) carry() {
	for c.serve() == waitIdle {
		if c.park() {
			return
		}
	}
	c.conn.end()
}

// serve speaks HTTP/2 until the connection has ended or is idle.
func (c *h2Conn) serve() wait {
	code, w := c.readFrames()
	switch w {
	case waitIdle:
		return w
	case waitEnded:
		c.giveUp()
	default:
		c.farewell(code)
	}
	c.end()
	c.buf.release()
	return waitEnded
}

// park parks the connection. It reports false if that can't be, or is not to be any more.
func (c *h2Conn) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == 0 {
		c.buf.release()
		c.fields = streamHead{}
		c.parked = c.srv.idle.park(c.conn, never) // tick sees to its idle limit.
		c.stays = !c.parked
	}
	return c.parked
}

// rests reports whether the connection may be parked.
func (c *h2Conn) rests() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idleFrom != 0 && c.idleFrom.until(now()) >= c.srv.idle.after && c.prefaced && c.acked && c.closing == 0 &&
		!c.writing && !c.stays && !c.inBlock && len(c.buffered()) == 0
}

// greet sends our settings (RFC 9113 §3.4).
func (c *h2Conn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.outBytes()
	b = appendH2Header(b, 3*settingSize, frameSettings, 0, 0)
	b = appendSetting(b, settingMaxStreams, uint32(c.cfg.MaxStreams))
	b = appendSetting(b, settingInitialWindow, h2StreamWindow)
	// Clients keep larger heads to themselves. What is a little too large is answered.
	b = appendSetting(b, settingMaxHeaderListSize, uint32(maxSection(c.cfg)))
	c.out = appendWindowUpdate(b, 0, h2ConnWindow-minWindow)
	c.kick()
}

// maxSilence bounds how rarely a silent connection is looked at that may be idle, in multiples of parkAfter.
const maxSilence = 64

// readFrames reads and obeys frames. It returns the code of what the client did wrong, or that the connection has ended
// by itself (waitEnded), is idle (waitIdle) or is to be ended.
func (c *h2Conn) readFrames() (h2Code, wait) {
	c.mu.Lock()
	c.parked = false
	c.mu.Unlock()
	if c.buf.b == nil {
		c.buf.acquire(smallBuffer)
	}
	for limit := c.srv.idle.after; ; {
		if code := c.obeyBuffered(); code != codeNone {
			return code, waitBegun
		}
		c.pause()
		c.link.limitRead(now(), limit)
		err := c.fill()
		switch {
		case err == nil:
			limit = c.srv.idle.after
		case c.isClosing():
			return codeNone, waitBegun
		case !errors.Is(err, errTimedOut):
			return codeNone, waitEnded
		case c.rests():
			return codeNone, waitIdle
		default: // Silence while requests run may be long: it is looked at more and more rarely.
			limit = min(2*limit, maxSilence*c.srv.idle.after)
		}
	}
}

func (c *h2Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != 0
}

// obeyBuffered obeys the frames that have come in full, behind the preface (RFC 9113 §3.4).
func (c *h2Conn) obeyBuffered() h2Code {
	for t := now(); ; {
		p := c.buffered()
		if !c.prefaced {
			if n := min(len(p), len(clientPreface)); string(p[:n]) != clientPreface[:n] {
				return codeProtocol
			}
			if len(p) < len(clientPreface) {
				return codeNone
			}
			c.prefaced = true
			c.consume(len(clientPreface))
			continue
		}
		if len(p) < frameHeaderSize {
			return codeNone
		}
		n := frameHeaderSize + frameLength(p)
		if n > frameHeaderSize+h2FrameSize {
			return codeFrameSize
		}
		if len(p) < n {
			c.reserve(n)
			return codeNone
		}
		f := parseFrame(p)
		if code := c.obey(&f, t); code != codeNone {
			return code
		}
		c.consume(n)
		c.whole = !c.inBlock
	}
}

// pause sets things right before the next read: what was answered goes out, and a large buffer back.
func (c *h2Conn) pause() {
	p := c.buffered()
	// Bodies have limits of their own. All else that is not complete may be a head.
	partial := !c.prefaced || c.inBlock || len(p) > 0 && (len(p) < frameHeaderSize || p[3] != frameData)
	switch {
	case !partial:
		c.headFrom.Store(0)
	case c.whole || c.headFrom.Load() == 0:
		c.headFrom.Store(int64(now()))
	}
	c.whole = false
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) == 0 && len(c.buf.b) > smallBuffer && len(c.byID) == 0 {
		c.buf.acquire(smallBuffer)
		c.r, c.w = 0, 0
	}
	c.kick()
}

// headSince returns for how long a head has been on its way.
func (c *h2Conn) headSince(t instant) time.Duration {
	if from := instant(c.headFrom.Load()); from != 0 {
		return from.until(t)
	}
	return 0
}

// farewell ends the connection with a reason, and reads for a while what is on its way: the RST for unread bytes would
// destroy the farewell.
func (c *h2Conn) farewell(code h2Code) {
	c.mu.Lock()
	if code != codeNone {
		c.srv.metrics.h2Errors[scopeConnection].Inc()
		c.out = appendGoAway(c.outBytes(), c.lastID, code)
		c.abandon()
	}
	c.beginClosing()
	c.kick()
	c.mu.Unlock()
	if code != codeNone {
		timer := time.AfterFunc(lingerTime, func() { _ = c.link.Close() })
		defer timer.Stop()
	}
	<-c.written
	c.link.resume()
	if c.wire.CloseWrite() == nil && c.link.closeWrite() == nil {
		c.link.discard(c.buf.b)
	}
}

// giveUp gives up a connection that nothing can be written on.
func (c *h2Conn) giveUp() {
	c.mu.Lock()
	c.die()
	c.abandon() // Frames that had come already may have begun requests since it died.
	c.beginClosing()
	c.mu.Unlock()
	<-c.written
}

// die ends the connection at once. mu is held.
func (c *h2Conn) die() {
	if !c.dead {
		c.dead, c.left = true, true
		c.wake() // Before the descriptor is gone under which it is parked.
		_ = c.link.Close()
		c.abandon()
	}
}

// wake has a connection that is parked served again. mu is held.
func (c *h2Conn) wake() {
	if c.parked && c.srv.idle.unpark(c.conn) {
		c.parked = false
		go c.srv.carry(c.conn)
	}
}

// abandon tells all streams that nobody waits for their answers. mu is held.
func (c *h2Conn) abandon() {
	for _, hs := range c.byID {
		c.forget(hs, errConnEnded)
	}
}

// beginClosing has the connection end when everything has been written. mu is held.
func (c *h2Conn) beginClosing() {
	if c.closing == 0 {
		c.closing, c.left = now(), true
		c.link.interrupt() // The reader takes it from here.
		c.wake()
		c.settleWriter()
	}
}

// settleWriter says that the writer will not run again, when that is so. mu is held.
func (c *h2Conn) settleWriter() {
	if c.closing != 0 && !c.writing && (c.dead || len(c.out) == 0) {
		select {
		case <-c.written:
		default:
			close(c.written)
		}
	}
}
