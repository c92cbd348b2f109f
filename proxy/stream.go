package proxy

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stream is one request of a connection that carries many, and the form of downstream for it: what HTTP/2 and HTTP/3
// have in common. How its bytes travel is its carrier's matter. It belongs to the goroutine that runs the request.
type stream struct {
	x       exchange
	carrier carrier

	headBuf  buffer // the request's head, as HTTP/1.1 would have it
	in       buffer // of the request's body
	body     []byte // the request's body, if all of it is in memory
	whole    bool   // body is set
	received int64  // bytes of the body so far
	uploads  bool   // the body is being streamed
	talks    bool   // gRPC, to a backend that speaks it: both directions go on at once
	bodyErr  error  // sticky
	trailer  head   // of the request's body
	upWindow rateWindow
	timer    bodyTimer

	status    int
	lines     []byte // field lines of the answer's head
	out       []byte // of the answer's body, held back
	outBuf    buffer
	committed bool  // the answer's head has been handed to the carrier
	ended     bool  // the answer is complete
	sentEnd   bool  // its end has been handed to the carrier
	tail      *head // its trailers, nil if there are none
	aborted   bool

	slot    int          // in the connection's list
	writing atomic.Int64 // instant since when a write waits for the client, 0 = none does
	pending atomic.Int64 // its bytes
}

// carrier is a stream as its version of HTTP has it. Its methods are called by the goroutine of the exchange, but those
// for the request's body by the one that streams it, if there is one, and stopReading and sweep by any.
type carrier interface {
	// requestHead returns the request's head as HTTP/1.1 has it, or more of it than MaxHeaderBytes. It stays valid until
	// the stream forgets its request.
	requestHead() []byte

	// left says why nobody waits for the answer any more, nil while somebody does.
	left() error

	// whenLeft has f called when the client leaves, if it has not left already, until unlessLeft has returned. f must not
	// wait for anything.
	whenLeft(who leaver, f func())
	unlessLeft(who leaver)

	// begun reports whether bytes of the body wait to be read, as far as that is known.
	begun() bool

	// read reads from the body like an io.Reader. stopReading makes it return for good.
	read(p []byte) (int, error)
	stopReading()

	// surplus returns an error if more of the body has come than its length, which has been read, as far as that is known
	// without waiting.
	surplus() error

	// appendTrailers appends the field lines of the request's trailers, after io.EOF.
	appendTrailers(dst []byte) []byte

	// sendInterim sends a 1xx answer with some field lines.
	sendInterim(status int, lines []byte) error

	// send sends the answer's head, unless lines is nil, and the next bytes of its body, and returns when they need not be
	// kept any more. It waits for the client's window where it must.
	send(lines, body []byte, how sending) error

	// sweep is called every second. stalled says that the client has not taken what waits for it for too long.
	sweep(t instant, stalled bool)
}

// leaver is who wants to know that the client has left: the exchange, and who streams its body.
type leaver uint8

const (
	leaverExchange leaver = iota
	leaverUpload
	leaverCount
)

// sending says how urgent bytes are, and whether they are the last ones.
type sending uint8

const (
	sendSoon sending = iota // more comes at once
	sendNow
	sendLast // the answer ends with it, and with the stream's tail
)

// begin makes st ready for a request of a connection.
func (st *stream) begin(conn *muxConn) {
	x := &st.x
	view := conn.view()
	x.srv, x.cfg, x.peer = conn.srv, view.cfg, &view.peer
	x.begin()
	x.start = now()
}

// init makes the parts of a new stream known to each other.
func (st *stream) init(c carrier) {
	st.carrier = c
	st.x.down = st
	st.x.upload.init(&st.x)
	st.timer.carrier = c
}

// serve answers the request.
func (st *stream) serve() {
	st.x.err.Kind = st.judge()
	st.x.srv.handle(&st.x)
	st.timer.disarm()
	st.carrier.unlessLeft(leaverUpload)
}

// judge makes the request's head one of HTTP/1.1 and has it judged like any other, so that every rule is the same code.
func (st *stream) judge() Kind {
	x := &st.x
	if st.carrier.left() != nil {
		return KindClientGone // It was reset before its turn came.
	}
	b := st.carrier.requestHead()
	rules := headRules{maxBytes: x.cfg.MaxHeaderBytes, maxFields: x.cfg.MaxHeaderFields}
	n, bad := x.req.scan(b, &rules)
	switch {
	case bad != 0:
		x.req.isHead = bytes.HasPrefix(b, []byte("HEAD "))
		return bad
	case n != len(b):
		return KindBadRequest
	}
	if bad = x.req.judge(); bad != 0 {
		return bad
	}
	if x.req.absolute {
		return KindBadRequest // RFC 9113 §8.3.1: :path is no URI.
	}
	st.whole = x.req.framing == framingNone
	return 0
}

// reset makes st forget its request.
func (st *stream) reset() {
	st.headBuf.release()
	st.in.release()
	st.outBuf.release()
	st.trailer.reset()
	st.x.srv, st.x.cfg, st.x.peer = nil, nil, nil
	st.body, st.whole, st.received, st.uploads, st.bodyErr, st.upWindow = nil, false, 0, false, nil, rateWindow{}
	st.talks = false
	st.status, st.lines, st.out, st.tail = 0, st.lines[:0], nil, nil
	st.committed, st.ended, st.sentEnd, st.aborted = false, false, false, false
	st.x.req.reset()
	st.x.res.reset()
}

// wholeBody implements downstream.
func (st *stream) wholeBody() ([]byte, bool) { return st.body, st.whole }

// collectBody implements downstream.
func (st *stream) collectBody() Error {
	r := &st.x.req
	if !st.whole {
		if r.framing != framingLength || r.contentLength > bodyBuffer/2 || r.expects && !st.carrier.begun() {
			return Error{}
		}
		st.in.acquire(int(r.contentLength))
		n := 0
		for n < int(r.contentLength) {
			m, err := st.readSome(st.in.b[n:r.contentLength])
			if n += m; err != nil && n < int(r.contentLength) {
				return uploadError(st.cutShort(err))
			}
		}
		st.body, st.whole = st.in.b[:n], true
	}
	if st.carrier.surplus() != nil {
		return uploadError(errBodySyntax)
	}
	return Error{}
}

// bodyBegun implements downstream.
func (st *stream) bodyBegun() bool { return st.carrier.begun() }

// readBody implements downstream.
func (st *stream) readBody() ([]byte, error) {
	if st.bodyErr != nil {
		st.carrier.unlessLeft(leaverUpload)
		return nil, st.bodyErr
	}
	if !st.uploads {
		// Whoever streams may be stuck in a write to the backend and not see the client leave.
		st.uploads = true
		up := st.x.upload.up
		link := up.link
		st.talks = up.pool.h2c != nil && st.x.req.framing == framingChunked && st.x.req.isGRPC()
		st.carrier.whenLeft(leaverUpload, func() {
			st.x.gone.Store(true)
			link.interrupt()
		})
		st.in.acquire(bodyBuffer)
	}
	n, err := st.readSome(st.in.b)
	if limit := st.x.cfg.MaxBodyBytes; limit > 0 && st.received > limit {
		n, err = 0, errBodyLimit
	}
	if err == io.EOF && st.x.req.framing == framingChunked && !st.scanTrailers() {
		err = errBodySyntax
	}
	if err != nil {
		st.bodyErr = st.cutShort(err)
		if n == 0 {
			st.carrier.unlessLeft(leaverUpload)
			return nil, st.bodyErr
		}
	}
	return st.in.b[:n], nil
}

// readSome reads from the body within the limits of an upload.
func (st *stream) readSome(p []byte) (int, error) {
	idle, _ := st.uploadLimits()
	t := now()
	st.timer.arm(t, idle)
	if later, _ := st.uploadLimits(); later != idle {
		st.timer.arm(t, later) // The answer began before there was a limit to relax.
	}
	n, err := st.carrier.read(p)
	expired := st.timer.disarm()
	st.received += int64(n)
	_, rate := st.uploadLimits() // As it is by now: the answer may have begun during the read.
	switch {
	case expired && n == 0:
		return 0, errTimedOut
	case st.upWindow.slow(t.until(now()), int64(n), rate):
		return n, errSlowPeer
	}
	return n, err
}

// uploadLimits returns how long the client may keep silent within its body, and how slow it may be. Once an answer has
// begun, and in gRPC from the beginning, the two directions are a conversation, in which silence is no stalling. That a
// client calls its body gRPC is not enough: what speaks HTTP/1.1 is no server of gRPC.
func (st *stream) uploadLimits() (idle time.Duration, rate int) {
	x := &st.x
	if st.talks || x.answered.Load() {
		return x.cfg.TunnelIdleTimeout, 0
	}
	return x.cfg.BodyIdleTimeout, x.cfg.MinBodyRate
}

// cutShort maps an error of the carrier: a body that is not as long as announced is no client that left.
func (st *stream) cutShort(err error) error {
	switch {
	case err == io.EOF && st.x.req.framing == framingLength && st.received != st.x.req.contentLength:
		return errBodySyntax
	case err == io.EOF || errors.As(err, new(linkError)) || errors.Is(err, errBodyLimit) || errors.Is(err, errSlowPeer):
		return err
	case st.carrier.left() == nil && st.x.req.framing == framingLength:
		return errBodySyntax
	}
	return err
}

// cancelBody implements downstream. It is for good: no exchange reads on after it gave an upload up.
func (st *stream) cancelBody() { st.carrier.stopReading() }

// resumeBody implements downstream.
func (st *stream) resumeBody() {}

// watch implements downstream.
func (st *stream) watch() { st.carrier.whenLeft(leaverExchange, st.x.leave) }

// unwatch implements downstream.
func (st *stream) unwatch() { st.carrier.unlessLeft(leaverExchange) }

// trailers implements downstream.
func (st *stream) trailers() *head { return &st.trailer }

// scanTrailers reads what stands behind the body. It reports false if HTTP/1.1 would not take it.
func (st *stream) scanTrailers() bool {
	b := st.carrier.appendTrailers(nil)
	if len(b) == 0 {
		return true
	}
	b = append(b, "\r\n"...)
	n, bad := st.trailer.scan(b, &trailerRules)
	return bad == 0 && n == len(b)
}

// bodyBytes implements downstream.
func (st *stream) bodyBytes() int64 { return st.received }

// continueBody implements downstream.
func (st *stream) continueBody() error { return st.carrier.sendInterim(100, nil) }

// writeInterim implements downstream.
func (st *stream) writeInterim(r *response) error {
	st.lines = st.x.appendResponseFields(st.lines[:0], r)
	return st.carrier.sendInterim(r.status, st.lines)
}

// writeHead implements downstream.
func (st *stream) writeHead(r *response) error {
	st.status = r.status
	lines := st.x.appendResponseFields(st.lines[:0], r)
	if r.framing == framingLength || r.keepsLength() {
		lines = append(lines, "Content-Length: "...)
		lines = strconv.AppendInt(lines, r.contentLength, 10)
		lines = append(lines, "\r\n"...)
	}
	st.lines = lines
	return nil
}

// writeBody implements downstream.
func (st *stream) writeBody(p []byte) error {
	if st.x.res.framing == framingNone {
		return nil
	}
	st.x.sentBytes += int64(len(p))
	if st.outBuf.b == nil {
		st.outBuf.acquire(smallBuffer)
		st.out = st.outBuf.b[:0]
	}
	if len(st.out)+len(p) <= len(st.outBuf.b) {
		st.out = append(st.out, p...)
		return nil
	}
	if len(st.out) > 0 {
		if err := st.send(st.out, sendSoon); err != nil {
			return err
		}
		st.out = st.out[:0]
	}
	return st.send(p, sendSoon)
}

// endBody implements downstream.
func (st *stream) endBody(trailers *head) error {
	st.ended = true
	if trailers != nil && len(trailers.fields) > 0 {
		st.tail = trailers
	}
	return nil
}

// flush implements downstream.
func (st *stream) flush() error {
	if st.sentEnd {
		return st.carrier.left()
	}
	how := sendNow
	if st.ended {
		how, st.sentEnd = sendLast, true
	}
	err := st.send(st.out, how)
	st.out = st.out[:0]
	return err
}

// send hands bytes of the body to the carrier, with the head before them if that has not gone. From here on there is no
// other answer.
func (st *stream) send(p []byte, how sending) error {
	var lines []byte
	if !st.committed {
		st.committed = true
		st.x.answered.Store(true)
		if !st.whole {
			st.timer.relax(st.x.cfg.TunnelIdleTimeout)
		}
		if lines = st.lines; lines == nil {
			lines = []byte{}
		}
	}
	return st.carrier.send(lines, p, how)
}

// waits notes that n bytes wait for the client from now on, taken that they do not any more.
func (st *stream) waits(n int) {
	st.pending.Store(int64(n))
	st.writing.Store(int64(now()))
}

func (st *stream) taken() { st.writing.Store(0) }

// stalled reports whether the client has taken less than MinBodyRate of what is being written.
func (st *stream) stalled(t instant) bool {
	since := instant(st.writing.Load())
	if since == 0 {
		return false
	}
	allowed := rateSpan
	if rate := st.x.cfg.MinBodyRate; rate > 0 {
		allowed = max(allowed, time.Duration(st.pending.Load())*time.Second/time.Duration(rate))
	} else {
		allowed = 10 * rateSpan
	}
	return since.until(t) > allowed
}

// writeOwn implements downstream.
func (st *stream) writeOwn(a *ownAnswer) {
	x := &st.x
	x.status, st.status = a.status, a.status
	st.lines = a.appendHead(st.lines[:0], x)
	st.lines = st.lines[:copy(st.lines, st.lines[bytes.IndexByte(st.lines, '\n')+1:])] // Without the status line.
	st.out, st.ended, st.tail = st.out[:0], true, nil
	if !x.req.isHead {
		st.out = append(st.out, a.body...)
		x.sentBytes = int64(len(a.body))
	}
	_ = st.flush()
}

// abort implements downstream: a reset of the stream, which no client takes for the end of a message.
func (st *stream) abort() { st.aborted = true }

// bodyTimer ends a read of a request's body that lasts too long. One timer serves a stream for all its requests.
type bodyTimer struct {
	carrier carrier
	mu      sync.Mutex
	timer   *time.Timer
	at      instant // when the present read must have ended; 0 = no limit
	expired bool
}

// arm lets the next read last until d from now; zero is no limit.
func (t *bodyTimer) arm(at instant, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expired, t.at = false, 0
	if d <= 0 {
		return
	}
	t.at = at.after(d)
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.fire)
	} else {
		t.timer.Reset(d)
	}
}

// relax lets a read that goes on last until d from now; zero is no limit.
func (t *bodyTimer) relax(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.at == 0:
	case d <= 0:
		t.at = 0
		t.timer.Stop()
	default:
		t.at = now().after(d)
		t.timer.Reset(d)
	}
}

// disarm ends the limit and reports whether it was exceeded.
func (t *bodyTimer) disarm() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at != 0 {
		t.at = 0
		t.timer.Stop()
	}
	expired := t.expired
	t.expired = false
	return expired
}

// fire runs in a goroutine of its own, maybe late: by then the stream may read something else.
func (t *bodyTimer) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == 0 || now() < t.at {
		return
	}
	t.at, t.expired = 0, true
	t.carrier.stopReading()
}
