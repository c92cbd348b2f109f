package proxy

import (
	"errors"
	"io"
	"sync/atomic"
)

// uploadState is how far the streaming of a request body has come.
type uploadState int32

const (
	uploadNone uploadState = iota
	uploadRunning
	uploadComplete
	uploadFailed
)

// upload streams a request body to the backend in a goroutine of its own, so that an answer that comes early is seen: the
// two directions of an exchange do not wait for each other.
type upload struct {
	x     *exchange
	state atomic.Int32
	seen  bool // the exchange has taken notice of the end
	err   Error
	done  chan struct{}
}

func (u *upload) init(x *exchange) { u.x, u.done = x, make(chan struct{}, 1) }

func (u *upload) running() bool { return uploadState(u.state.Load()) == uploadRunning }
func (u *upload) failed() bool  { return uploadState(u.state.Load()) == uploadFailed }

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

// start begins to stream the body to the exchange's backend.
func (u *upload) start() {
	u.seen, u.err = false, Error{}
	u.state.Store(int32(uploadRunning))
	go u.run(u.x.up)
}

// stop ends the streaming if it still runs, and waits for its end. The backend's connection must be closed first unless the
// body is complete: a write may be waiting on it.
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
	u.state.Store(int32(uploadNone))
}

func (u *upload) run(up *backendConn) {
	defer func() { u.done <- struct{}{} }()
	err := u.copy(up)
	if err.Kind == KindNone {
		u.state.Store(int32(uploadComplete))
	} else {
		u.err = err
		u.state.Store(int32(uploadFailed))
	}
	up.link.interrupt()
}

// copy sends the body in the framing it came in.
func (u *upload) copy(up *backendConn) Error {
	down, chunked := u.x.down, u.x.req.framing == framingChunked
	var out []byte
	for {
		p, err := down.readBody()
		switch {
		case err == io.EOF && !chunked:
			return Error{}
		case err == io.EOF:
			return u.write(up, appendTrailers(append(out[:0], "0\r\n"...), down.trailers()))
		case err != nil:
			return uploadError(err)
		case chunked:
			out = appendChunk(out[:0], p)
			p = out
		}
		if e := u.write(up, p); e.Kind != KindNone {
			return e
		}
	}
}

// write sends p. A backend that takes no more has maybe answered already: whether that is so, the reading side finds out.
func (u *upload) write(up *backendConn, p []byte) Error {
	if _, err := up.rw.Write(p); err != nil {
		if errors.Is(err, errSlowPeer) {
			return Error{Kind: KindResponseTimeout, Cause: err}
		}
		return Error{Kind: KindBackendReset, Cause: err}
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
