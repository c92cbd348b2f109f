package proxy

import "slices"

// This file is the receiving half of a connection of HTTP/2: what each frame does. All of it runs with mu held.

// obey does what a frame says that came at t. It returns the code of a fault that ends the connection. The reader calls
// it, without mu.
func (c *h2Conn) obey(f *h2Frame, t instant) h2Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flood, kind := c.meter.received(t, f); flood {
		return c.flood(kind)
	}
	if c.inBlock && f.kind != frameContinuation || !c.greeted && f.kind != frameSettings {
		return codeProtocol // RFC 9113 §6.10, §3.4
	}
	code := c.obeyKind(f)
	if code == codeNone && len(c.out) > h2OutMax {
		return c.flood(floodControl)
	}
	return code
}

func (c *h2Conn) obeyKind(f *h2Frame) h2Code {
	switch f.kind {
	case frameData:
		return c.gotData(f)
	case frameHeaders:
		return c.gotHeaders(f)
	case frameContinuation:
		return c.gotContinuation(f)
	case framePriority:
		return c.gotPriority(f)
	case frameRST:
		return c.gotReset(f)
	case frameSettings:
		return c.gotSettings(f)
	case framePing:
		return c.gotPing(f)
	case frameGoAway:
		if f.stream != 0 {
			return codeProtocol
		}
		if len(f.payload) < 8 {
			return codeFrameSize
		}
	case frameWindowUpdate:
		return c.gotWindow(f)
	case framePushPromise:
		return codeProtocol
	}
	return codeNone // What is unknown is ignored (RFC 9113 §4.1).
}

// flood ends a connection that has become one.
func (c *h2Conn) flood(kind int) h2Code {
	c.srv.metrics.floods[kind].Inc()
	return codeCalm
}

// idle reports whether a stream was never opened (RFC 9113 §5.1). The client's streams are odd. mu is held.
func (c *h2Conn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID }

func (c *h2Conn) gotHeaders(f *h2Frame) h2Code {
	if f.stream%2 == 0 {
		return codeProtocol
	}
	p, ok := f.unpadded()
	if !ok {
		return codeProtocol
	}
	c.opening, c.selfish = h2Frame{flags: f.flags, stream: f.stream}, false
	if f.has(flagPriority) {
		if len(p) < 5 {
			return codeFrameSize
		}
		c.selfish = dependsOnItself(p, f.stream)
		p = p[5:]
	}
	if !f.has(flagEndHeaders) {
		c.inBlock, c.block = true, append(c.block[:0], p...)
		return codeNone
	}
	return c.gotBlock(p)
}

// dependsOnItself reads the priority at the beginning of p, which is ignored otherwise (RFC 9113 §5.3.2).
func dependsOnItself(p []byte, stream uint32) bool {
	return uint32(p[0]&0x7f)<<24|uint32(p[1])<<16|uint32(p[2])<<8|uint32(p[3]) == stream
}

func (c *h2Conn) gotContinuation(f *h2Frame) h2Code {
	if !c.inBlock || f.stream != c.opening.stream {
		return codeProtocol
	}
	if len(c.block)+len(f.payload) > h2BlockFactor*c.cfg.MaxHeaderBytes {
		return codeCalm
	}
	c.block = append(c.block, f.payload...)
	if !f.has(flagEndHeaders) {
		return codeNone
	}
	c.inBlock = false
	code := c.gotBlock(c.block)
	c.block = nil
	return code
}

// decode reads a block of fields. It has to be done for every block, also where nobody wants the fields: later ones
// refer to them (RFC 9113 §4.3).
func (c *h2Conn) decode(block []byte) h2Code {
	if _, err := c.decoder.Write(block); err != nil {
		return codeCompression
	}
	if c.decoder.Close() != nil {
		return codeCompression
	}
	return codeNone
}

// gotBlock takes the whole list of fields of a request, or its trailers.
func (c *h2Conn) gotBlock(block []byte) h2Code {
	id, end := c.opening.stream, c.opening.has(flagEndStream)
	if hs := c.byID[id]; hs != nil {
		return c.gotTrailers(hs, block, end)
	}
	if !c.idle(id) || c.left {
		c.fields.begin(nil, 0, true)
		if !end || !c.lingered(id) {
			c.meter.control++ // It costs as much as a head and carries no request.
		}
		if code := c.decode(block); code != codeNone || c.left || slices.Contains(c.late, id) {
			return code
		}
		return codeProtocol // RFC 9113 §5.1.1
	}
	c.lastID = id
	c.meter.opened++
	hs := acquireH2Stream(c, id)
	c.fields.begin(hs.headBuf.b[:0], hs.x.cfg.MaxHeaderBytes, false)
	code := c.decode(block)
	sound := c.fields.end(!end)
	hs.text, hs.length = c.fields.dst, c.fields.length
	switch {
	case code != codeNone:
	case !sound || c.selfish:
		code = c.refuse(id, codeProtocol)
	case c.open >= c.cfg.MaxStreams:
		code = c.refuse(id, codeRefused)
	default:
		hs.remoteDone, hs.sendWindow = end, c.initialWindow
		return c.admit(hs)
	}
	hs.release()
	return code
}

// admit begins to answer a request, or has it wait for a place: requests that were reset leave theirs late.
func (c *h2Conn) admit(hs *h2Stream) h2Code {
	if c.running >= c.cfg.MaxStreams && len(c.waiting) >= h2WaitFactor*c.cfg.MaxStreams {
		hs.release()
		return c.flood(floodResets)
	}
	hs.open, hs.known = true, true
	c.byID[hs.id] = hs
	c.open++
	c.idleFrom = 0
	c.add(&hs.stream)
	c.srv.metrics.h2Requests.Inc()
	if c.running >= c.cfg.MaxStreams {
		c.waiting = append(c.waiting, hs)
		return codeNone
	}
	c.running++
	c.srv.workers.run(hs)
	return codeNone
}

// gotTrailers takes the fields behind a body (RFC 9113 §8.1).
func (c *h2Conn) gotTrailers(hs *h2Stream, block []byte, end bool) h2Code {
	c.fields.begin(nil, maxTrailerBytes, true)
	if code := c.decode(block); code != codeNone {
		return code
	}
	switch {
	case hs.remoteDone && hs.localDone:
		return codeStreamClosed // Its worker is about to take leave of it.
	case hs.remoteDone:
		return c.resetStream(hs, codeStreamClosed)
	case !end || !c.fields.end(false) || c.selfish || hs.length >= 0 && hs.got != hs.length:
		return c.resetStream(hs, codeProtocol)
	}
	if hs.trailers = c.fields.dst; len(hs.trailers) > maxTrailerBytes {
		hs.stop(errBodySyntax)
	}
	c.bodyDone(hs)
	return codeNone
}

// bodyDone takes note of the client's end of a stream.
func (c *h2Conn) bodyDone(hs *h2Stream) {
	hs.remoteDone = true
	c.settleOpen(hs)
	signal(hs.readable)
}

// settleOpen stops counting a stream that both sides have ended (RFC 9113 §5.1.2).
func (c *h2Conn) settleOpen(hs *h2Stream) {
	if hs.open && hs.remoteDone && hs.localDone {
		hs.open = false
		c.open--
	}
}

func (c *h2Conn) gotData(f *h2Frame) h2Code {
	data, ok := f.unpadded()
	if f.stream == 0 || !ok {
		return codeProtocol
	}
	n := len(f.payload)
	if c.recvWindow -= int32(n); c.recvWindow < 0 {
		return codeFlowControl
	}
	hs := c.byID[f.stream]
	if hs == nil {
		if c.idle(f.stream) && !c.left {
			return codeProtocol
		}
		c.credit(n)
		if f.has(flagEndStream) && !c.lingered(f.stream) && len(data) == 0 {
			c.meter.control++ // The end of nothing.
		}
		if c.idle(f.stream) || slices.Contains(c.late, f.stream) {
			return codeNone
		}
		return c.refuse(f.stream, codeStreamClosed)
	}
	hs.got += int64(len(data))
	hs.recvWindow -= int32(n)
	switch {
	case hs.remoteDone:
		c.credit(n)
		return c.resetStream(hs, codeStreamClosed)
	case hs.recvWindow < 0:
		c.credit(n)
		return c.resetStream(hs, codeFlowControl)
	case hs.length >= 0 && hs.got > hs.length:
		c.credit(n)
		hs.stop(errBodySyntax)
		return c.resetStream(hs, codeProtocol) // RFC 9113 §8.1.1
	case hs.stopped != nil:
		c.credit(n)
	default:
		hs.recv.write(data)
		c.refill(hs, n-len(data))
	}
	if f.has(flagEndStream) {
		c.bodyDone(hs)
	} else if len(data) > 0 {
		signal(hs.readable)
	}
	return codeNone
}

// credit lets the client send n more bytes on the connection. mu is held.
func (c *h2Conn) credit(n int) {
	if c.unacked += int32(n); c.unacked >= h2ConnWindow/4 {
		c.out = appendWindowUpdate(c.outBytes(), 0, c.unacked)
		c.recvWindow, c.unacked = c.recvWindow+c.unacked, 0
		c.kick()
	}
}

// refill lets the client send n more bytes of a body. mu is held.
func (c *h2Conn) refill(hs *h2Stream, n int) {
	c.credit(n)
	hs.unacked += int32(n)
	if hs.remoteDone || hs.unacked < h2StreamWindow/4 {
		return
	}
	c.out = appendWindowUpdate(c.outBytes(), hs.id, hs.unacked)
	hs.recvWindow, hs.unacked = hs.recvWindow+hs.unacked, 0
	c.kick()
}

func (c *h2Conn) gotPriority(f *h2Frame) h2Code {
	hs := c.byID[f.stream]
	var code h2Code
	switch {
	case f.stream == 0:
		return codeProtocol
	case len(f.payload) != 5:
		code = codeFrameSize
	case dependsOnItself(f.payload, f.stream):
		code = codeProtocol
	default:
		return codeNone
	}
	if hs == nil {
		return code
	}
	return c.resetStream(hs, code)
}

func (c *h2Conn) gotReset(f *h2Frame) h2Code {
	switch {
	case f.stream == 0 || c.idle(f.stream) && !c.left:
		return codeProtocol
	case len(f.payload) != 4:
		return codeFrameSize
	}
	if c.meter.reset() {
		return c.flood(floodResets)
	}
	if hs := c.byID[f.stream]; hs != nil {
		c.forget(hs, errStreamReset)
	} else {
		c.lingered(f.stream)
	}
	return codeNone
}

func (c *h2Conn) gotSettings(f *h2Frame) h2Code {
	p := f.payload
	switch {
	case f.stream != 0:
		return codeProtocol
	case f.has(flagAck):
		if len(p) != 0 {
			return codeFrameSize
		}
		if !c.greeted {
			return codeProtocol
		}
		c.acked = true
		return codeNone
	case len(p)%settingSize != 0:
		return codeFrameSize
	}
	c.greeted = true
	window := c.initialWindow
	for ; len(p) > 0; p = p[settingSize:] {
		value := uint32(p[2])<<24 | uint32(p[3])<<16 | uint32(p[4])<<8 | uint32(p[5])
		switch id := uint16(p[0])<<8 | uint16(p[1]); id {
		case settingHeaderTableSize:
			c.table.resize(value)
		case settingEnablePush, settingConnectProtocol:
			if value > 1 {
				return codeProtocol
			}
		case settingInitialWindow:
			if value > maxWindow {
				return codeFlowControl
			}
			window = int64(value) // The last one counts: streams are told once.
		case settingMaxFrameSize:
			if value < h2FrameSize || value >= 1<<24 {
				return codeProtocol
			}
		}
	}
	if code := c.changeWindows(window); code != codeNone {
		return code
	}
	c.out = appendH2Header(c.outBytes(), 0, frameSettings, flagAck, 0) // Before anything that follows from them.
	c.pump()
	return codeNone
}

// changeWindows gives all streams another initial window (RFC 9113 §6.9.2). Those that wait may go on with the next
// pump.
func (c *h2Conn) changeWindows(to int64) h2Code {
	by := to - c.initialWindow
	if by == 0 {
		return codeNone
	}
	c.initialWindow = to
	for _, hs := range c.byID {
		if hs.sendWindow += by; hs.sendWindow > maxWindow {
			return codeFlowControl
		}
		c.enqueue(hs)
	}
	return codeNone
}

func (c *h2Conn) gotPing(f *h2Frame) h2Code {
	switch {
	case f.stream != 0:
		return codeProtocol
	case len(f.payload) != 8:
		return codeFrameSize
	case !f.has(flagAck):
		c.out = appendPing(c.outBytes(), flagAck, f.payload)
	case c.leaving != 0:
		c.nameLast() // Whatever it sent before it knew has come.
	}
	return codeNone
}

func (c *h2Conn) gotWindow(f *h2Frame) h2Code {
	if len(f.payload) != 4 {
		return codeFrameSize
	}
	p := f.payload
	by := int64(p[0]&0x7f)<<24 | int64(p[1])<<16 | int64(p[2])<<8 | int64(p[3])
	if f.stream == 0 {
		if by == 0 {
			return codeProtocol
		}
		if c.sendWindow += by; c.sendWindow > maxWindow {
			return codeFlowControl
		}
		c.pump()
		return codeNone
	}
	hs := c.byID[f.stream]
	switch {
	case hs == nil && c.idle(f.stream) && !c.left:
		return codeProtocol
	case hs == nil:
		return codeNone
	case by == 0:
		return c.resetStream(hs, codeProtocol)
	}
	if hs.sendWindow += by; hs.sendWindow > maxWindow {
		return c.resetStream(hs, codeFlowControl)
	}
	c.enqueue(hs)
	c.pump()
	return codeNone
}
