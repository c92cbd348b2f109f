package proxy

import (
	"errors"
	"io"
	"sync"
)

// h2Stream is a stream of HTTP/2. Its worker, the connection's reader and writer and the sweep share it.
type h2Stream struct {
	stream
	conn *h2Conn
	id   uint32
	text []byte // the request's head

	// Guarded by conn.mu.
	open       bool  // it counts as one of the client's streams
	known      bool  // it stands in conn.byID
	gone       error // nobody waits for the answer any more
	remoteDone bool  // the client has sent its end
	localDone  bool  // our end has been handed to the writer
	length     int64 // of the body as announced, -1 = unknown
	got        int64 // bytes of the body that came
	recv       bodyQueue
	recvWindow int32 // bytes that the client may send
	unacked    int32 // bytes that were read and not given back to the window yet
	stopped    error // nothing more is read of the body
	trailers   []byte
	leaves     [leaverCount]func()
	sendWindow int64
	job        h2Job
	queued     bool // job is in conn.queue

	readable chan struct{} // the body has more, or ended
	sent     chan struct{} // job is done, or will not be
}

// h2Job is what a stream has to say and the writer has not taken yet.
type h2Job struct {
	active bool
	head   bool
	lines  []byte
	body   []byte
	last   bool
}

var h2Streams = sync.Pool{New: func() any {
	hs := &h2Stream{readable: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
	hs.init(hs)
	return hs
}}

// Why nobody waits for an answer any more.
var (
	errStreamReset = errors.New("stream was reset")
	errConnEnded   = errors.New("connection has ended")
	errReadStopped = errors.New("body is not read any more")
)

// acquireH2Stream returns a stream for a request whose head is about to be decoded.
func acquireH2Stream(c *h2Conn, id uint32) *h2Stream {
	hs := h2Streams.Get().(*h2Stream)
	hs.conn, hs.id = c, id
	hs.begin(c.muxConn)
	hs.x.req.major = 2
	hs.recvWindow, hs.length = h2StreamWindow, -1
	hs.headBuf.acquire(smallBuffer)
	drain(hs.readable)
	drain(hs.sent)
	return hs
}

// release gives hs back to the pool. Neither the connection nor a goroutine knows it any more.
func (hs *h2Stream) release() {
	hs.reset()
	hs.recv.release()
	hs.conn, hs.id, hs.text, hs.trailers = nil, 0, nil, nil
	hs.open, hs.known, hs.gone, hs.remoteDone, hs.localDone = false, false, nil, false, false
	hs.length, hs.got, hs.recvWindow, hs.unacked, hs.stopped = 0, 0, 0, 0, nil
	hs.leaves, hs.sendWindow, hs.job, hs.queued = [leaverCount]func(){}, 0, h2Job{}, false
	h2Streams.Put(hs)
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// signal wakes who waits for c, or lets the next wait pass.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// work answers the request on a goroutine of its own.
func (hs *h2Stream) work() {
	c := hs.conn
	served := false
	defer c.srv.survive("stream", func() { // There was no fence, or it has failed: hs is not used again.
		if !served {
			c.finish(hs)
		}
	})
	hs.serve()
	served = true
	c.finish(hs)
	if hs.x.reusable() {
		hs.release()
	}
}

// requestHead implements carrier.
func (hs *h2Stream) requestHead() []byte { return hs.text }

// left implements carrier.
func (hs *h2Stream) left() error {
	hs.conn.mu.Lock()
	defer hs.conn.mu.Unlock()
	return hs.gone
}

// whenLeft implements carrier.
func (hs *h2Stream) whenLeft(who leaver, f func()) {
	hs.conn.mu.Lock()
	defer hs.conn.mu.Unlock()
	if hs.gone != nil {
		f()
		return
	}
	hs.leaves[who] = f
}

// unlessLeft implements carrier.
func (hs *h2Stream) unlessLeft(who leaver) {
	hs.conn.mu.Lock()
	hs.leaves[who] = nil
	hs.conn.mu.Unlock()
}

// begun implements carrier.
func (hs *h2Stream) begun() bool {
	hs.conn.mu.Lock()
	defer hs.conn.mu.Unlock()
	return hs.recv.size > 0
}

// read implements carrier.
func (hs *h2Stream) read(p []byte) (int, error) {
	c := hs.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case hs.stopped != nil:
			return 0, hs.stopped
		case hs.recv.size > 0:
			n := hs.recv.read(p)
			c.refill(hs, n)
			return n, nil
		case hs.remoteDone:
			return 0, io.EOF
		}
		c.mu.Unlock()
		<-hs.readable
		c.mu.Lock()
	}
}

// stopReading implements carrier.
func (hs *h2Stream) stopReading() {
	c := hs.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	hs.stop(errReadStopped)
}

// surplus implements carrier. The reader of the connection resets such a stream when the frame comes.
func (hs *h2Stream) surplus() error { return nil }

// stop ends the reading of the body. What came of it, and comes, is dropped. conn.mu is held.
func (hs *h2Stream) stop(err error) {
	if hs.stopped == nil {
		hs.stopped = err
		hs.conn.credit(hs.recv.size)
		hs.recv.release()
		signal(hs.readable)
	}
}

// appendTrailers implements carrier.
func (hs *h2Stream) appendTrailers(dst []byte) []byte {
	hs.conn.mu.Lock()
	defer hs.conn.mu.Unlock()
	return append(dst, hs.trailers...)
}

// sendInterim implements carrier.
func (hs *h2Stream) sendInterim(status int, lines []byte) error {
	c := hs.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if hs.gone != nil {
		return hs.gone
	}
	if status == 100 || len(c.out) < h2OutLimit { // Limit: a client that takes nothing loses early hints.
		c.putHead(hs.id, status, lines, false)
		c.kick()
	}
	return nil
}

// send implements carrier.
func (hs *h2Stream) send(lines, body []byte, how sending) error {
	c := hs.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if hs.gone != nil {
		return hs.gone
	}
	hs.job = h2Job{active: true, head: lines != nil, lines: lines, body: body, last: how == sendLast}
	if c.advance(hs, len(c.queue) == 0); hs.job.active {
		hs.waits(len(hs.job.body))
		c.kick()
		for hs.job.active {
			c.mu.Unlock()
			<-hs.sent
			c.mu.Lock()
		}
		hs.taken()
	}
	if how != sendSoon || len(c.out) >= h2OutLimit/2 {
		c.kick()
	}
	if hs.gone != nil && !hs.localDone {
		return hs.gone
	}
	return nil
}

// sweep implements carrier. conn.mu is held.
func (hs *h2Stream) sweep(_ instant, stalled bool) {
	if stalled {
		hs.conn.resetStream(hs, codeCancel)
		hs.conn.kick()
	}
}

// bodyQueue holds the bytes of a body that came and were not read yet, in pooled buffers.
type bodyQueue struct {
	bufs []buffer
	r, w int // unread bytes of the first buffer begin at r, free ones of the last at w
	size int
}

// write appends p.
func (q *bodyQueue) write(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		if n := len(q.bufs); n == 0 || q.w == len(q.bufs[n-1].b) {
			var b buffer
			size := smallBuffer
			if n > 0 || len(p) > smallBuffer {
				size = bodyBuffer
			}
			b.acquire(size)
			q.bufs, q.w = append(q.bufs, b), 0
		}
		n := copy(q.bufs[len(q.bufs)-1].b[q.w:], p)
		q.w += n
		p = p[n:]
	}
}

// read takes up to len(p) bytes off the queue.
func (q *bodyQueue) read(p []byte) (n int) {
	for n < len(p) && q.size > 0 {
		first := &q.bufs[0]
		end := len(first.b)
		if len(q.bufs) == 1 {
			end = q.w
		}
		m := copy(p[n:], first.b[q.r:end])
		n, q.r, q.size = n+m, q.r+m, q.size-m
		if q.r == len(first.b) || q.size == 0 {
			first.release()
			q.bufs, q.r = append(q.bufs[:0], q.bufs[1:]...), 0
		}
	}
	return n
}

// release drops everything.
func (q *bodyQueue) release() {
	for i := range q.bufs {
		q.bufs[i].release()
	}
	q.bufs, q.r, q.w, q.size = q.bufs[:0], 0, 0, 0
}
