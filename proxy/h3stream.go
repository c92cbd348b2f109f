package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// h3Stream is one request of a connection, and the carrier of its stream.
type h3Stream struct {
	stream
	conn   *h3Conn
	qs     *quic.Stream
	leaves [leaverCount]leaving

	// Of the goroutine that reads: the exchange's, or the one that streams the body.
	in       h3Reader
	inBuf    buffer
	head     streamHead
	large    bool        // the head is larger than may be read
	length   int64       // the body's, -1 = it does not say
	rest     uint64      // of the present DATA frame
	got      int64       // of the body
	trailed  bool        // trailers have come
	trailing []byte      // their field lines
	gaveUp   atomic.Bool // the client has reset the request
	closed   atomic.Bool // the answer is complete

	// Of the exchange's goroutine.
	enc   h3Encoder
	frame []byte // on its way
}

var h3Streams = sync.Pool{New: func() any {
	s := &h3Stream{}
	s.init(s)
	return s
}}

// h3SmallAnswer is what an answer may have at most to be left to the library whole, without waiting for the client.
const h3SmallAnswer = 8 << 10

// serveH3 reads a request, has it answered, and ends its stream.
func (c *h3Conn) serveH3(qs *quic.Stream) {
	s := h3Streams.Get().(*h3Stream)
	s.conn, s.qs = c, qs
	s.inBuf.acquire(smallBuffer)
	s.in = h3Reader{r: qs, buf: s.inBuf.b}
	if limit := c.srv.config().HeaderTimeout; limit > 0 {
		_ = qs.SetReadDeadline(time.Now().Add(limit))
	}
	if err := s.readHead(); err != nil {
		s.refuse(err)
		s.release()
		return
	}
	_ = qs.SetReadDeadline(time.Time{})
	c.srv.metrics.h3Requests.Inc()
	s.begin(c.mux)
	s.x.req.major = 3
	if !c.mux.enter(&s.stream) {
		s.refuse(errNoHead)
		s.release()
		return
	}
	returned := false
	defer func() {
		if !returned { // The fence itself has failed: s is not used again.
			c.mux.leave(&s.stream)
		}
	}()
	s.serve()
	returned = true
	c.mux.leave(&s.stream)
	s.end()
	if s.x.reusable() {
		s.release()
	}
}

// end ends the stream, which is complete or cut off.
func (s *h3Stream) end() {
	if s.left() != nil {
		s.conn.meter.reset()
	}
	if s.aborted || !s.closed.Load() {
		s.qs.CancelWrite(h3InternalError) // Nothing, if the client has gone.
	}
	s.qs.CancelRead(h3NoError) // Nothing, if all has been read. RFC 9114 §4.1: the answer counts all the same.
}

// release gives s back to the pool.
func (s *h3Stream) release() {
	s.reset()
	s.inBuf.release()
	s.head.begin(nil, 0, false)
	s.conn, s.qs, s.in = nil, nil, h3Reader{}
	s.rest, s.got, s.trailed, s.trailing = 0, 0, false, nil
	s.gaveUp.Store(false)
	s.closed.Store(false)
	h3Streams.Put(s)
}

// refuse ends a stream, or the connection, without an answer.
func (s *h3Stream) refuse(err error) {
	fault := errNoHead
	switch {
	case errors.As(err, &fault):
		s.conn.fault(fault)
		if !fault.ends { // Whoever has us reset streams at will is no better than who resets them.
			s.conn.meter.reset()
		}
	case isTimeout(err):
		s.conn.srv.metrics.errors[KindRequestTimeout].Inc()
	default: // The client has reset it.
		s.conn.meter.reset()
	}
	s.qs.CancelRead(quic.StreamErrorCode(fault.code))
	s.qs.CancelWrite(quic.StreamErrorCode(fault.code))
}

// isTimeout reports whether a read or write has exceeded its time.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// readHead reads the frames up to the head, and finds out whether a body follows.
func (s *h3Stream) readHead() error {
	length, err := s.awaitHeaders()
	if err != nil {
		return err
	}
	limit := uint64(s.conn.maxSection) //nolint:gosec // not negative
	block, err := s.in.payload(int(min(length, limit)))
	if err != nil {
		return err
	}
	s.conn.meter.useful(len(block))
	s.length, s.large = -1, false
	s.headBuf.acquire(smallBuffer)
	s.head.begin(s.headBuf.b[:0], s.conn.srv.config().MaxHeaderBytes, false)
	err = decodeSection(block, s.conn.maxSection, &s.head)
	if length > limit && (err == nil || errors.Is(err, errBlock)) {
		err = errSectionTooLarge // It was cut, between two fields or within one.
	}
	switch {
	case errors.Is(err, errSectionTooLarge):
		s.large = true
		return nil
	case err != nil:
		return err
	case !s.head.sound():
		return malformed(s.head.fault)
	case s.head.authority == "" && s.head.host == "":
		return malformed("authority")
	}
	s.length = s.head.length
	return s.judgeBody()
}

// awaitHeaders skips frames of unknown types (RFC 9114 §9) and returns the length of the request's HEADERS frame.
func (s *h3Stream) awaitHeaders() (uint64, error) {
	for {
		kind, length, err := s.in.frame()
		switch {
		case errors.Is(err, io.EOF):
			return 0, errNoHead
		case err != nil:
			return 0, err
		case kind == h3Headers:
			return length, nil
		case kind == h3Data:
			return 0, errFrameUnexpected
		}
		if err := s.pass(kind, length); err != nil {
			return 0, err
		}
	}
}

// pass skips a frame of an unknown type, and refuses those that belong elsewhere.
func (s *h3Stream) pass(kind, length uint64) error {
	switch kind {
	case h3CancelPush, h3Settings, h3PushPromise, h3GoAway, h3MaxPushID:
		return errFrameUnexpected
	}
	if ofHTTP2(kind) {
		return errFrameUnexpected
	}
	if err := s.conn.meter.control(length); err != nil {
		return err
	}
	return s.in.skip(length)
}

// judgeBody finds out whether a request that gives no length has a body at all: an empty one of unknown length would be
// another request to a backend. Methods that are about a body need not wait for the answer to that.
func (s *h3Stream) judgeBody() error {
	if s.head.sized || s.head.expects {
		return nil
	}
	switch s.head.method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		if err := s.in.fill(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if s.in.ended() {
		s.length = 0
	}
	return nil
}

// requestHead implements carrier.
func (s *h3Stream) requestHead() []byte {
	if s.large { // Whatever of it was read, it is not to be taken for a head that fits.
		_ = s.head.sound()
		return append(append(s.head.dst, "X: "...), make([]byte, s.x.cfg.MaxHeaderBytes)...)
	}
	_ = s.head.end(s.length < 0 || s.head.sized) // It is sound.
	return s.head.dst
}

// left implements carrier.
func (s *h3Stream) left() error {
	switch {
	case s.gaveUp.Load():
		return errNoHead
	case s.closed.Load():
		return nil // The context has ended, too.
	}
	return s.qs.Context().Err()
}

// whenLeft implements carrier. A client that resets only what it sends is found by whoever reads that.
func (s *h3Stream) whenLeft(who leaver, f func()) { s.leaves[who].start(s.qs.Context(), f) }

// unlessLeft implements carrier.
func (s *h3Stream) unlessLeft(who leaver) { s.leaves[who].stop() }

// begun implements carrier.
func (s *h3Stream) begun() bool { return s.rest > 0 || s.in.i < s.in.n }

// read implements carrier.
func (s *h3Stream) read(p []byte) (int, error) {
	for s.rest == 0 {
		if err := s.nextFrame(); err != nil {
			return 0, s.readFailed(err)
		}
	}
	n, err := s.in.read(p[:min(uint64(len(p)), s.rest)])
	s.rest -= uint64(n) //nolint:gosec // not negative
	s.got += int64(n)
	s.conn.meter.useful(n)
	if s.length >= 0 && (s.got > s.length || s.got == s.length && s.rest > 0) {
		n, err = 0, errLongBody
	}
	if err != nil {
		return n, s.readFailed(err)
	}
	return n, nil
}

var errLongBody = malformed("body longer than its length")

// surplus implements carrier. It looks through the frames that have come along with the body's last bytes, and leaves
// them where they are: the client may have ended its request, or be about to.
func (s *h3Stream) surplus() error {
	d := h3Reader{r: eof{}, buf: s.in.buf, i: s.in.i, n: s.in.n, err: io.EOF}
	for {
		kind, length, err := d.frame()
		switch {
		case err != nil || kind == h3Headers:
			return nil
		case kind == h3Data && length > 0:
			return s.readFailed(errLongBody) // RFC 9114 §4.1.2
		}
		if d.skip(length) != nil {
			return nil
		}
	}
}

// stopReading implements carrier.
func (s *h3Stream) stopReading() { _ = s.qs.SetReadDeadline(longAgo) }

// nextFrame goes on to the next DATA frame. Its error is io.EOF at the body's end.
func (s *h3Stream) nextFrame() error {
	kind, length, err := s.in.frame()
	switch {
	case err != nil:
		return err
	case kind != h3Data && kind != h3Headers:
		return s.pass(kind, length)
	case s.trailed:
		return errFrameUnexpected
	case kind == h3Headers:
		s.trailed = true
		return s.readTrailers(length)
	case length == 0:
		return s.conn.meter.control(0)
	}
	s.rest = length
	return nil
}

func (s *h3Stream) readTrailers(length uint64) error {
	limit := s.conn.maxSection
	if length > uint64(limit) { //nolint:gosec // not negative
		return malformed("trailers too large")
	}
	block, err := s.in.payload(int(length)) //nolint:gosec // at most limit
	if err != nil {
		return err
	}
	var h streamHead
	h.begin(nil, maxTrailerBytes, true)
	err = decodeSection(block, limit, &h)
	if errors.Is(err, errSectionTooLarge) || h.full() {
		return malformed("trailers too large")
	}
	s.trailing = h.dst
	return err
}

// readFailed judges the error that ended a body. A client that has reset it gives the request up.
func (s *h3Stream) readFailed(err error) error {
	var fault *h3Fault
	switch {
	case errors.Is(err, io.EOF) || isTimeout(err):
	case errors.As(err, &fault):
		s.conn.fault(fault)
	default:
		s.gaveUp.Store(true)
	}
	return err
}

// appendTrailers implements carrier.
func (s *h3Stream) appendTrailers(dst []byte) []byte { return append(dst, s.trailing...) }

// sendInterim implements carrier.
func (s *h3Stream) sendInterim(status int, lines []byte) error {
	s.frame = s.enc.appendHead(s.frame[:0], status, lines)
	return s.write(s.frame)
}

// send implements carrier.
func (s *h3Stream) send(lines, body []byte, how sending) error {
	b := s.frame[:0]
	if lines != nil {
		b = s.enc.appendHead(b, s.status, lines)
	}
	if len(body) > 0 {
		b = appendFrameHeader(b, h3Data, len(body))
		if len(body) <= h3SmallAnswer {
			b, body = append(b, body...), nil
		}
	}
	if how == sendLast && s.tail != nil {
		if len(body) > 0 {
			if err := errors.Join(s.write(b), s.write(body)); err != nil {
				return err
			}
			b, body = b[:0], nil
		}
		b = s.enc.appendTrailers(b, s.tail)
	}
	s.frame = b
	if how == sendLast && len(body) == 0 && len(b) <= 2*h3SmallAnswer {
		if err := s.qs.TryWriteAll(b); err == nil {
			s.conn.meter.useful(len(b))
			return s.close()
		}
	}
	if err := s.write(b); err != nil {
		return err
	}
	if err := s.write(body); err != nil {
		return err
	}
	if how == sendLast {
		return s.close()
	}
	return s.left()
}

// close ends the answer.
func (s *h3Stream) close() error {
	s.closed.Store(true)
	return s.qs.Close()
}

// write waits for the client to take p.
func (s *h3Stream) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	s.waits(len(p))
	_, err := s.qs.Write(p)
	s.taken()
	s.conn.meter.useful(len(p))
	return err
}

// sweep implements carrier.
func (s *h3Stream) sweep(_ instant, stalled bool) {
	if stalled {
		_ = s.qs.SetWriteDeadline(longAgo)
	}
}

// appendHead appends the HEADERS frame of an answer.
func (e *h3Encoder) appendHead(dst []byte, status int, lines []byte) []byte {
	e.begin()
	e.status(status)
	for len(lines) > 0 {
		var line []byte
		line, lines = cutLine(lines)
		// Heads were judged when they were read: a line without a name is none of theirs.
		if name, value, found := bytes.Cut(line, []byte(":")); found && len(name) > 0 {
			e.field(name, trimOWS(value))
		}
	}
	return e.appendFrame(dst)
}

// appendTrailers appends the HEADERS frame of trailers.
func (e *h3Encoder) appendTrailers(dst []byte, tail *head) []byte {
	e.begin()
	for i := range tail.fields {
		if f := &tail.fields[i]; !forbiddenTrailer(tail, f) {
			e.field(f.name.of(tail.b), f.value.of(tail.b))
		}
	}
	return e.appendFrame(dst)
}
