package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// uploadState is how far the streaming of a request body has come.
type uploadState int32

const (
	uploadNone uploadState = iota
	uploadRunning
	uploadEnding // the last bytes have been read from the client and are being written
	uploadComplete
	uploadFailed
)

// upload streams a request body to the backend in a goroutine of its own, so that an answer that comes early is seen:
// the two directions of an exchange do not wait for each other.
type upload struct {
	x     *exchange
	up    *backendConn // the exchange's, which may let go of it while the body is sent
	state atomic.Int32
	seen  bool // the exchange has taken notice of the end
	err   Error
	done  chan struct{}
	out   buffer      // a chunk on its way
	loop  func()      // run, made once: starting its goroutine allocates nothing
	timer *time.Timer // of settle
}

func (u *upload) init(x *exchange) {
	u.x, u.done, u.loop = x, make(chan struct{}, 1), u.run
}

func (u *upload) running() bool {
	s := uploadState(u.state.Load())
	return s == uploadRunning || s == uploadEnding
}

func (u *upload) failed() bool { return uploadState(u.state.Load()) == uploadFailed }

// justDone reports once that the body has been sent in full.
func (u *upload) justDone() bool {
	if u.seen || uploadState(u.state.Load()) != uploadComplete {
		return false
	}
	u.seen = true
	return true
}

// refused reports whether the body was not sent in full because the backend takes no more of it. It may have answered.
func (u *upload) refused() bool { return u.failed() && u.err.Kind == KindBackendReset }

// settleTime is how long settle waits. It is needed where goroutines wait for a core, or the backend answers early.
const settleTime = 20 * time.Millisecond

// settle gives an upload that is writing its last bytes a moment to end. The backend may have them, and have answered,
// before the writer knows: that answer has overtaken nothing, and both connections can go on.
func (u *upload) settle() {
	if uploadState(u.state.Load()) != uploadEnding {
		return
	}
	if u.timer == nil {
		u.timer = time.NewTimer(settleTime)
	} else {
		u.timer.Reset(settleTime)
	}
	select {
	case <-u.done:
		u.done <- struct{}{} // For stop.
	case <-u.timer.C:
	}
	u.timer.Stop()
}

// start begins to stream the body to the exchange's backend.
func (u *upload) start() {
	u.seen, u.err = false, Error{}
	u.state.Store(int32(uploadRunning))
	u.up = u.x.up
	go u.loop()
}

// stop ends the streaming if it still runs, and waits for its end. The backend's connection must be closed first unless
// the body is complete: a write may be waiting on it.
func (u *upload) stop() {
	if uploadState(u.state.Load()) == uploadNone {
		return
	}
	unfinished := u.running()
	if unfinished {
		u.x.down.cancelBody()
	}
	<-u.done
	if unfinished {
		u.x.down.resumeBody()
	}
	u.up = nil
	u.state.Store(int32(uploadNone))
}

func (u *upload) run() {
	defer func() { u.done <- struct{}{} }()
	defer u.x.srv.survive("body's upload", func() { u.finish(failed(KindInternal)) })
	u.finish(u.copy())
}

// finish tells the exchange how the streaming ended.
func (u *upload) finish(e Error) {
	if e.Kind == KindNone {
		u.state.Store(int32(uploadComplete))
	} else {
		u.err = e
		u.state.Store(int32(uploadFailed))
	}
	u.up.link.interrupt()
}

// copy sends the body in the framing it came in.
func (u *upload) copy() Error {
	down, chunked := u.x.down, u.x.req.framing == framingChunked
	if chunked {
		u.out.acquire(bodyBuffer)
		defer u.out.release()
	}
	for {
		p, err := down.readBody()
		switch {
		case err == io.EOF && !chunked:
			return Error{}
		case err == io.EOF:
			u.state.Store(int32(uploadEnding))
			return u.write(appendTrailers(append(u.out.b[:0], "0\r\n"...), down.trailers()))
		case err != nil:
			return uploadError(err)
		}
		write := u.write
		if chunked {
			write = u.writeChunks
		} else if down.bodyBytes() == u.x.req.contentLength {
			u.state.Store(int32(uploadEnding))
		}
		if e := write(p); e.Kind != KindNone {
			return e
		}
	}
}

// writeChunks sends p as a chunk, or as several if it does not fit the buffer.
func (u *upload) writeChunks(p []byte) Error {
	for len(p) > 0 {
		n := min(len(p), bodyBuffer-chunkFrame)
		if e := u.write(appendChunk(u.out.b[:0], p[:n])); e.Kind != KindNone {
			return e
		}
		p = p[n:]
	}
	return Error{}
}

// write sends p. A backend that takes no more has maybe answered already: whether that is so, the reading side finds
// out.
func (u *upload) write(p []byte) Error {
	if _, err := u.up.rw.Write(p); err != nil {
		return writeError(err)
	}
	return Error{}
}

// uploadError maps an error of reading the client's body.
func uploadError(err error) Error {
	switch {
	case errors.Is(err, errBodySyntax):
		return Error{Kind: KindBadRequest, Cause: err}
	case errors.Is(err, errBodyLimit):
		return Error{Kind: KindBodyTooLarge, Cause: err}
	case errors.Is(err, errTimedOut), errors.Is(err, errSlowPeer):
		return Error{Kind: KindRequestTimeout, Cause: err}
	}
	return Error{Kind: KindClientGone, Cause: err}
}
