package proxy

import (
	"runtime"
	"slices"
)

// This file is the sending half of a connection of HTTP/2: streams put frames into one buffer, and a writer that runs
// while there are some writes them. All that is not the writer's own is called with mu held.

// outBytes returns the slice that frames are appended to.
func (c *h2Conn) outBytes() []byte {
	if c.out == nil {
		c.outBuf.acquire(bodyBuffer)
		c.out = c.outBuf.b[:0]
	}
	return c.out
}

// kick has the writer run if there is something to be written.
func (c *h2Conn) kick() {
	if !c.writing && len(c.out) > 0 && !c.dead {
		c.writing = true
		go c.writeLoop()
	}
}

// write writes until there is nothing left. By letting the answers that are about to come go first, fewer writes do for
// all. It runs on a goroutine of its own.
func (c *h2Conn) write() {
	defer c.srv.survive("writer", c.breakOff)
	runtime.Gosched()
	p, held := c.takeOut(nil)
	for p != nil {
		_, err := c.wire.Write(p)
		held.release()
		p, held = c.takeOut(err)
	}
}

// takeOut returns what the writer is to write next, nil when it has to end. err is that of its last write. It is called
// without mu, which a panic must not leave locked: the sweep would wait for it, and with it all other connections.
func (c *h2Conn) takeOut(err error) (p []byte, held buffer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.die()
	}
	if len(c.out) == 0 || c.dead {
		c.writing = false
		c.settleWriter()
		return nil, buffer{}
	}
	p, held = c.out, c.outBuf
	c.out, c.outBuf = nil, buffer{}
	c.pump()
	return p, held
}

// breakOff ends a connection whose writer has failed by a panic. It is called without mu.
func (c *h2Conn) breakOff() {
	c.link.reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	c.die()
	c.settleWriter()
}

// putHead appends the head of an answer, in as many frames as it takes.
func (c *h2Conn) putHead(id uint32, status int, lines []byte, end bool) {
	b := c.outBytes()
	begin := len(b)
	b = appendH2Header(b, 0, frameHeaders, 0, id)
	b = c.table.appendStatus(b, status)
	c.out = c.closeBlock(c.table.appendLines(b, lines), begin, end)
}

// putTrailers appends the trailers of an answer, which end it.
func (c *h2Conn) putTrailers(id uint32, t *head) {
	b := c.outBytes()
	begin := len(b)
	b = c.table.appendResize(appendH2Header(b, 0, frameHeaders, 0, id))
	for i := range t.fields {
		if f := &t.fields[i]; !forbiddenTrailer(t, f) {
			b = c.table.appendPair(b, f.name.of(t.b), f.value.of(t.b))
		}
	}
	if len(b) == begin+frameHeaderSize {
		c.out = appendH2Header(b[:begin], 0, frameData, flagEndStream, id) // Nothing is left of them.
		return
	}
	c.out = c.closeBlock(b, begin, true)
}

// closeBlock completes the HEADERS frame that begins at begin. What does not fit goes on in CONTINUATION frames.
func (c *h2Conn) closeBlock(b []byte, begin int, end bool) []byte {
	var flags byte
	if end {
		flags = flagEndStream
	}
	n := len(b) - begin - frameHeaderSize
	c.meter.useful += int64(n)
	if n <= h2FrameSize {
		putFrameLength(b[begin:], n, flags|flagEndHeaders)
		return b
	}
	// Slow path: the rest moves to make room for more frame headers.
	putFrameLength(b[begin:], h2FrameSize, flags)
	id := parseFrame(b[begin:]).stream
	rest := slices.Clone(b[begin+frameHeaderSize+h2FrameSize:])
	b = b[:begin+frameHeaderSize+h2FrameSize]
	for len(rest) > 0 {
		k := min(len(rest), h2FrameSize)
		flags = 0
		if k == len(rest) {
			flags = flagEndHeaders
		}
		b = append(appendH2Header(b, k, frameContinuation, flags, id), rest[:k]...)
		rest = rest[k:]
	}
	return b
}

// advance puts as much of a stream's job into the buffer as fits: with data only one frame, if others wait too. It
// takes the stream off the job when that is done, and queues it if it waits for something that others wait for too.
func (c *h2Conn) advance(hs *h2Stream, alone bool) {
	j := &hs.job
	if j.head {
		if len(c.out) >= h2OutLimit {
			c.enqueue(hs)
			return
		}
		whole := j.last && len(j.body) == 0 && hs.tail == nil
		c.putHead(hs.id, hs.status, j.lines, whole)
		j.head, j.lines = false, nil
		if whole {
			c.finishJob(hs)
			return
		}
	}
	for len(j.body) > 0 {
		n := min(int64(len(j.body)), h2FrameSize, hs.sendWindow)
		if n <= 0 {
			return // Until its window opens it waits for nobody else.
		}
		room := int64(h2OutLimit - len(c.out))
		if n > room && room < h2OutLimit/8 {
			room = 0 // A frame of a few bytes is not worth its header: the writer will be here soon.
		}
		if n = min(n, c.sendWindow, room); n <= 0 {
			c.enqueue(hs)
			return
		}
		var flags byte
		if whole := j.last && int(n) == len(j.body) && hs.tail == nil; whole {
			flags = flagEndStream
		}
		c.out = append(appendH2Header(c.outBytes(), int(n), frameData, flags, hs.id), j.body[:n]...)
		j.body = j.body[n:]
		hs.sendWindow -= n
		c.sendWindow -= n
		c.meter.useful += n
		if flags != 0 {
			c.finishJob(hs)
			return
		}
		if !alone && len(j.body) > 0 {
			c.enqueue(hs)
			return
		}
	}
	switch {
	case j.last && hs.tail != nil && len(c.out) >= h2OutLimit:
		c.enqueue(hs)
		return
	case j.last && hs.tail != nil:
		c.putTrailers(hs.id, hs.tail)
	case j.last:
		c.out = appendH2Header(c.outBytes(), 0, frameData, flagEndStream, hs.id)
	}
	c.finishJob(hs)
}

// finishJob takes note that all of a job is in the buffer.
func (c *h2Conn) finishJob(hs *h2Stream) {
	hs.job.active = false
	hs.localDone = hs.job.last
	hs.job.body = nil
	c.settleOpen(hs)
	signal(hs.sent)
}

// enqueue has a stream wait for its turn, if it has something to say.
func (c *h2Conn) enqueue(hs *h2Stream) {
	if hs.job.active && !hs.queued {
		hs.queued = true
		c.queue = append(c.queue, hs)
	}
}

// pump lets the streams that wait go on, a frame each in turns, while there is room.
func (c *h2Conn) pump() {
	for idle := 0; idle < len(c.queue) && len(c.out) < h2OutLimit; {
		hs := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		hs.queued = false
		before := len(c.out)
		c.advance(hs, false)
		switch {
		case len(c.out) > before:
			idle = 0
		case hs.queued: // Others have left the queue, which is shorter now.
			idle++
		}
	}
	c.kick()
}

// unqueue forgets what a stream wanted to say.
func (c *h2Conn) unqueue(hs *h2Stream) {
	if hs.queued {
		hs.queued = false
		if i := slices.Index(c.queue, hs); i >= 0 {
			c.queue = slices.Delete(c.queue, i, i+1)
		}
	}
	if hs.job.active {
		hs.job = h2Job{}
		signal(hs.sent)
	}
}

// refuse resets a stream that is none of ours. It returns the code that ends the connection if that makes a flood.
func (c *h2Conn) refuse(id uint32, code h2Code) h2Code {
	c.out = appendRST(c.outBytes(), id, code)
	c.ignore(id)
	if code.blames() {
		c.srv.metrics.h2Errors[scopeStream].Inc()
		if c.meter.reset() {
			return c.flood(floodResets)
		}
	}
	if len(c.out) > h2OutMax {
		return c.flood(floodControl)
	}
	return codeNone
}

// ignore has frames for a stream ignored that may be on their way.
func (c *h2Conn) ignore(id uint32) {
	if len(c.late) < h2LateStreams {
		c.late = append(c.late, id)
		return
	}
	c.late[c.lateNext] = id
	c.lateNext = (c.lateNext + 1) % h2LateStreams
}

// linger ends a stream whose answer is whole but whose request is not. The client is asked to stop (RFC 9113 §8.1), but
// not at once: some that are told in the midst of sending lose the answer. Until then its window is the limit.
func (c *h2Conn) linger(hs *h2Stream) {
	if len(c.lingering) >= h2LateStreams {
		c.resetStream(hs, codeNone)
		return
	}
	c.lingering = append(c.lingering, lingerer{hs.id, now()})
	c.ignore(hs.id)
	c.forget(hs, nil)
}

// lingered takes note that the client has ended a stream by itself. It reports whether that was still to come.
func (c *h2Conn) lingered(id uint32) bool {
	n := len(c.lingering)
	c.lingering = slices.DeleteFunc(c.lingering, func(l lingerer) bool { return l.id == id })
	return len(c.lingering) < n
}

// stopLingerers asks clients to stop that still send what nobody wants.
func (c *h2Conn) stopLingerers(t instant) {
	n := 0
	for n < len(c.lingering) && c.lingering[n].since.until(t) >= lingerTime {
		c.out = appendRST(c.outBytes(), c.lingering[n].id, codeNone)
		n++
	}
	c.lingering = slices.Delete(c.lingering, 0, n)
}

// resetStream ends a stream by a reset.
func (c *h2Conn) resetStream(hs *h2Stream, code h2Code) h2Code {
	if !hs.known {
		return codeNone
	}
	c.forget(hs, errStreamReset)
	return c.refuse(hs.id, code)
}

// forget ends a stream for the connection: nothing more is read or written of it. Its worker, if it has one, is told.
func (c *h2Conn) forget(hs *h2Stream, why error) {
	if !hs.known {
		return
	}
	hs.known = false
	delete(c.byID, hs.id)
	if hs.open {
		hs.open = false
		c.open--
	}
	hs.gone = why
	c.unqueue(hs)
	hs.stop(why)
	for i, f := range hs.leaves {
		if f != nil {
			hs.leaves[i] = nil
			f()
		}
	}
}

// finish takes leave of a stream whose worker is done with it.
func (c *h2Conn) finish(hs *h2Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !hs.known:
	case !hs.localDone:
		c.resetStream(hs, codeInternal)
	case !hs.remoteDone:
		c.linger(hs)
	default:
		c.forget(hs, nil)
	}
	c.drop(&hs.stream)
	c.running--
	c.startWaiting()
	if c.running == 0 && len(c.byID) == 0 {
		c.idleFrom = now()
		if c.left {
			c.beginClosing()
		}
	}
	c.kick()
}

// startWaiting gives the next request that waits the place of one that is done.
func (c *h2Conn) startWaiting() {
	if len(c.waiting) == 0 || c.running >= c.cfg.MaxStreams {
		return
	}
	hs := c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	c.running++
	c.srv.workers.run(hs)
}
