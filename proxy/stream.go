package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stream is one request of a connection that carries many, and the form of downstream for it: HTTP/2 and HTTP/3, by way
// of net/http's interfaces. It belongs to the goroutine that the library runs the request in.
type stream struct {
	x exchange
	w streamWriter
	r *http.Request

	headBuf  buffer // the request's head, as HTTP/1.1 would have it
	in       buffer // of the request's body
	body     []byte // the request's body, if all of it is in memory
	whole    bool   // body is set
	received int64  // bytes of the body so far
	uploads  bool   // the body is being streamed
	talks    bool   // gRPC: both directions go on at once
	bodyErr  error  // sticky
	trailer  head   // of the request's body
	upWindow rateWindow
	timer    bodyTimer

	status    int
	out       []byte // of the answer's body, held back
	outBuf    buffer
	lines     []byte // scratch: field lines on their way into the header map
	committed bool   // the answer's head has been handed to the library
	ended     bool   // the answer is complete
	aborted   bool

	left      leaving // tells the exchange that the client has gone, while it waits for its backend
	leftAside leaving // the same, while another goroutine streams the body

	slot     int          // in conn.streams
	writing  atomic.Int64 // instant since when a write waits for the client, 0 = none does
	pending  atomic.Int64 // its bytes
	deadline instant      // when the library ends a write that waits; guarded by conn.mu
}

// streamWriter is what the libraries' response writers are; http.ResponseController asks for the same methods.
type streamWriter interface {
	http.ResponseWriter
	FlushError() error
	SetWriteDeadline(deadline time.Time) error
}

var streams = sync.Pool{New: func() any {
	st := &stream{}
	st.x.down = st
	st.x.upload.init(&st.x)
	st.timer.init(st)
	return st
}}

// begin makes st ready for a request of a connection.
func (st *stream) begin(conn *muxConn, w http.ResponseWriter, r *http.Request) {
	x := &st.x
	st.w, st.r = w.(streamWriter), r
	view := conn.view()
	x.srv, x.cfg, x.peer = conn.srv, view.cfg, &view.peer
	x.begin()
	x.start = now()
}

// serve answers the request.
func (st *stream) serve() {
	st.x.err.Kind = st.judge()
	st.x.srv.handle(&st.x)
	st.timer.disarm()
	st.leftAside.stop()
}

// judge makes the request's head one of HTTP/1.1 and has it judged like any other, so that every rule is the same code.
func (st *stream) judge() Kind {
	r, x := st.r, &st.x
	if r.Context().Err() != nil {
		return KindClientGone // It was reset before its turn came.
	}
	st.headBuf.acquire(smallBuffer)
	b := appendStreamHead(st.headBuf.b[:0], r)
	rules := headRules{maxBytes: x.cfg.MaxHeaderBytes, maxFields: x.cfg.MaxHeaderFields}
	x.req.major = uint8(r.ProtoMajor)
	n, bad := x.req.scan(b, &rules)
	switch {
	case bad != 0:
		return bad
	case n != len(b):
		return KindBadRequest
	}
	if bad = x.req.judge(); bad != 0 {
		return bad
	}
	if x.req.absolute || x.req.contentLength > 0 && r.ContentLength != x.req.contentLength {
		return KindBadRequest // RFC 9113 §8.3.1: :path is no URI; §8.1.1: a length without that body.
	}
	st.whole = x.req.framing == framingNone
	st.talks = x.req.framing == framingChunked && x.req.isGRPC()
	return 0
}

// release gives st back to the pool.
func (st *stream) release() {
	st.headBuf.release()
	st.in.release()
	st.outBuf.release()
	st.trailer.reset()
	st.w, st.r, st.x.srv, st.x.cfg, st.x.peer = nil, nil, nil, nil, nil
	st.body, st.whole, st.received, st.uploads, st.bodyErr, st.upWindow = nil, false, 0, false, nil, rateWindow{}
	st.talks = false
	st.status, st.out, st.committed, st.ended, st.aborted = 0, nil, false, false, false
	st.deadline = 0
	st.x.req.reset()
	st.x.res.reset()
	streams.Put(st)
}

// wholeBody implements downstream.
func (st *stream) wholeBody() ([]byte, bool) { return st.body, st.whole }

// collectBody implements downstream.
func (st *stream) collectBody() Error {
	r := &st.x.req
	if st.whole || r.framing != framingLength || r.contentLength > bodyBuffer/2 || r.expects {
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
	return Error{}
}

// bodyBegun implements downstream. The libraries do not tell.
func (st *stream) bodyBegun() bool { return false }

// readBody implements downstream.
func (st *stream) readBody() ([]byte, error) {
	if st.bodyErr != nil {
		return nil, st.bodyErr
	}
	if !st.uploads {
		// Whoever streams may be stuck in a write to the backend and not see the client leave.
		st.uploads = true
		link := st.x.upload.up.link
		st.leftAside.start(st.r.Context(), func() {
			st.x.gone.Store(true)
			link.interrupt()
		})
		st.in.acquire(bodyBuffer)
	}
	n, err := st.readSome(st.in.b)
	if limit := st.x.cfg.MaxBodyBytes; limit > 0 && st.received > limit {
		n, err = 0, errBodyLimit
	}
	if err != nil {
		st.bodyErr = st.cutShort(err)
		if n == 0 {
			st.leftAside.stop()
			return nil, st.bodyErr
		}
	}
	return st.in.b[:n], nil
}

// readSome reads from the body within the limits of an upload.
func (st *stream) readSome(p []byte) (int, error) {
	limit, rate := st.uploadLimits()
	t := now()
	st.timer.arm(t, limit)
	n, err := st.r.Body.Read(p)
	expired := st.timer.disarm()
	st.received += int64(n)
	switch {
	case expired && n == 0:
		return 0, errTimedOut
	case st.upWindow.slow(t.until(now()), int64(n), rate):
		return n, errSlowPeer
	}
	return n, err
}

// uploadLimits returns how long the client may keep silent within its body, and how slow it may be. Once an answer has
// begun, and in gRPC from the beginning, the two directions are a conversation, in which silence is no stalling.
func (st *stream) uploadLimits() (idle time.Duration, rate int) {
	x := &st.x
	if st.talks || x.answered.Load() {
		return x.cfg.TunnelIdleTimeout, 0
	}
	return x.cfg.BodyIdleTimeout, x.cfg.MinBodyRate
}

// cutShort maps an error of the library: a body that is not as long as announced is no client that left.
func (st *stream) cutShort(err error) error {
	switch {
	case err == io.EOF && st.x.req.framing == framingLength && st.received != st.x.req.contentLength:
		return errBodySyntax
	case err == io.EOF || errors.As(err, new(linkError)) || errors.Is(err, errBodyLimit) || errors.Is(err, errSlowPeer):
		return err
	case st.r.Context().Err() == nil && st.x.req.framing == framingLength:
		return errBodySyntax
	}
	return err
}

// cancelBody implements downstream. It is for good: no exchange reads on after it gave an upload up.
func (st *stream) cancelBody() { _ = st.r.Body.Close() }

// resumeBody implements downstream.
func (st *stream) resumeBody() {}

// watch implements downstream.
func (st *stream) watch() { st.left.start(st.r.Context(), st.x.leave) }

// unwatch implements downstream.
func (st *stream) unwatch() { st.left.stop() }

// trailers implements downstream. The libraries give only those that a Trailer field announced.
func (st *stream) trailers() *head {
	b := appendHeaderLines(nil, st.r.Trailer)
	if len(b) > 0 {
		b = append(b, "\r\n"...)
		if n, bad := st.trailer.scan(b, &trailerRules); bad != 0 || n != len(b) {
			st.trailer.reset()
		}
	}
	return &st.trailer
}

// bodyBytes implements downstream.
func (st *stream) bodyBytes() int64 { return st.received }

// continueBody implements downstream. HTTP/2 clients get theirs from the library, upon the first read of the body.
func (st *stream) continueBody() error {
	st.w.WriteHeader(http.StatusContinue)
	return st.r.Context().Err()
}

// writeInterim implements downstream.
func (st *stream) writeInterim(r *response) error {
	st.lines = st.x.appendResponseFields(st.lines[:0], r)
	st.setFields(st.lines)
	st.w.WriteHeader(r.status)
	clear(st.w.Header())
	return st.r.Context().Err()
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
	st.setFields(lines)
	st.keepSilent()
	return nil
}

// keepSilent keeps the library from inventing fields that the backend did not send.
func (st *stream) keepSilent() {
	h := st.w.Header()
	for _, name := range []string{"Date", "Content-Type", "Content-Length"} {
		if _, set := h[name]; !set {
			h[name] = nil
		}
	}
}

// setFields puts field lines into the header map. Values share one string.
func (st *stream) setFields(lines []byte) {
	h, rest := st.w.Header(), string(lines)
	values := make([]string, 0, bytes.Count(lines, []byte("\n")))
	for rest != "" {
		var name, value string
		name, value, rest = cutLine(rest)
		if name == "" {
			continue
		}
		name = http.CanonicalHeaderKey(name)
		if old, set := h[name]; set {
			h[name] = append(old, value)
			continue
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// commit hands the head to the library. From here on there is no other answer.
func (st *stream) commit() {
	if st.committed {
		return
	}
	st.committed = true
	st.x.answered.Store(true)
	st.w.WriteHeader(st.status)
	clear(st.w.Header()) // The library has its own copy. What is set later are trailers.
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
	if err := st.writeOut(); err != nil {
		return err
	}
	return st.write(p)
}

// endBody implements downstream.
func (st *stream) endBody(trailers *head) error {
	st.ended = true
	if trailers == nil || len(trailers.fields) == 0 {
		return nil
	}
	st.commit()
	h := st.w.Header()
	for i := range trailers.fields {
		if f := &trailers.fields[i]; !forbiddenTrailer(trailers, f) {
			name := http.TrailerPrefix + http.CanonicalHeaderKey(string(f.name.of(trailers.b)))
			h[name] = append(h[name], string(f.value.of(trailers.b)))
		}
	}
	return nil
}

// writeOut writes what was held back.
func (st *stream) writeOut() error {
	st.commit()
	if len(st.out) == 0 {
		return nil
	}
	err := st.write(st.out)
	st.out = st.out[:0]
	return err
}

// write hands bytes of the body to the library, which waits for the client's window.
func (st *stream) write(p []byte) error {
	st.pending.Store(int64(len(p)))
	st.writing.Store(int64(now()))
	_, err := st.w.Write(p)
	st.writing.Store(0)
	return err
}

// flush implements downstream. The library ends the stream when the handler returns: a complete answer is left to it,
// so that its end needs no frame of its own.
func (st *stream) flush() error {
	if err := st.writeOut(); err != nil {
		return err
	}
	if !st.ended {
		st.writing.Store(int64(now()))
		err := st.w.FlushError()
		st.writing.Store(0)
		if err != nil {
			return err
		}
	}
	return st.r.Context().Err()
}

// writeOwn implements downstream.
func (st *stream) writeOwn(a *ownAnswer) {
	x := &st.x
	x.status, st.status = a.status, a.status
	clear(st.w.Header())
	st.lines = a.appendHead(st.lines[:0], x)
	st.setFields(st.lines[bytes.IndexByte(st.lines, '\n')+1:])
	st.keepSilent()
	st.out, st.ended = st.out[:0], true
	if !x.req.isHead {
		st.out = append(st.out, a.body...)
		x.sentBytes = int64(len(a.body))
	}
	_ = st.flush()
}

// abort implements downstream: a reset of the stream, which no client takes for the end of a message.
func (st *stream) abort() { st.aborted = true }

// leaving calls a function when a request's context ends.
type leaving struct {
	cancel func() bool
	done   chan struct{}
}

func (l *leaving) start(ctx context.Context, gone func()) {
	done := make(chan struct{})
	l.done = done
	l.cancel = context.AfterFunc(ctx, func() {
		defer close(done)
		gone()
	})
}

// stop ends the wait. The function does not run any more when stop returns.
func (l *leaving) stop() {
	if l.cancel == nil {
		return
	}
	if !l.cancel() {
		<-l.done
	}
	l.cancel, l.done = nil, nil
}

// bodyTimer ends a read of a request's body that lasts too long. One timer serves a stream for all its requests.
type bodyTimer struct {
	st      *stream
	mu      sync.Mutex
	timer   *time.Timer
	at      instant // when the present read must have ended; 0 = no limit
	expired bool
}

func (t *bodyTimer) init(st *stream) { t.st = st }

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
	_ = t.st.r.Body.Close()
}
