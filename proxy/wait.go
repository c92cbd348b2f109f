package proxy

import (
	"context"
	"errors"
	"time"
)

// watchAfter is how long a wait for a backend lasts before the client is watched. Answers that come sooner cost no
// goroutine; a client that leaves is noticed within 100 ms all the same.
const watchAfter = 50 * time.Millisecond

// phase is what the exchange waits for its backend for.
type phase struct {
	since   instant       // start of the wait, 0 before the first read
	limit   time.Duration // 0 = none
	perRead bool          // the limit is for progress: every read starts a new wait
}

// Reasons for which a wait ends without bytes from the backend.
var (
	errClientGone   = errors.New("client has gone")
	errUploadFailed = errors.New("request body failed")
)

// expect begins a wait for progress or for one event.
func (x *exchange) expect(limit time.Duration, perRead bool) {
	x.phase = phase{limit: limit, perRead: perRead}
}

// readBackend reads from the backend within the limits of the phase. While it waits long it has the client watched.
func (x *exchange) readBackend(p []byte) (int, error) {
	t := now()
	if x.phase.perRead || x.phase.since == 0 {
		x.phase.since = t
	}
	for {
		if !x.armWait(t) {
			return 0, errTimedOut
		}
		n, err := x.up.rw.Read(p)
		if n > 0 || err == nil {
			x.heard = true
			return n, err
		}
		switch {
		case errors.Is(err, errInterrupted):
			x.up.link.resume()
			if err := x.interruption(); err != nil {
				return 0, err
			}
		case errors.Is(err, errTimedOut):
			if !x.watched {
				x.watched = true
				if x.up.link.question == nil {
					x.up.head.release() // It is sent, and the wait may be long.
				}
				x.down.watch()
			}
		default:
			return 0, err
		}
		t = now()
	}
}

// armWait sets the limit of the next read at time t. It reports false when the phase has used up its time.
func (x *exchange) armWait(t instant) bool {
	var left time.Duration // 0 = none
	if x.phase.limit > 0 && !x.upload.running() {
		if left = x.phase.limit - x.phase.since.until(t); left <= 0 {
			return false
		}
	}
	if !x.watched && !x.upload.running() && (left == 0 || left > watchAfter) {
		left = watchAfter
	}
	x.up.link.limitRead(t, left)
	return true
}

// interruption says why another goroutine ended the wait, nil if it may go on.
func (x *exchange) interruption() error {
	switch {
	case x.gone.Load():
		return errClientGone
	case x.upload.refused():
		if !x.upload.seen {
			x.upload.seen, x.phase.since = true, now()
		}
	case x.upload.failed():
		return errUploadFailed
	case x.upload.justDone():
		x.phase.since = now() // The backend's time starts when it has the whole request.
	}
	return nil
}

// patiently runs f, which brings the exchange to a backend connection and may have to wait long for it. The client is
// watched meanwhile: when it goes the context ends, and patiently returns errClientGone.
func (x *exchange) patiently(f func(ctx context.Context) error) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x.giveUp = cancel
	watching := make(chan struct{})
	timer := time.AfterFunc(watchAfter, func() {
		defer close(watching)
		x.down.watch()
	})
	defer func() { // Also if f panics: a watch that outlives its wait would take the next request for this one.
		if !timer.Stop() {
			<-watching
			x.down.unwatch()
		}
		x.giveUp = nil
		if x.gone.Load() {
			err = errClientGone
		}
	}()
	return f(ctx)
}

// leave tells the exchange, from another goroutine, that its client has gone.
func (x *exchange) leave() {
	x.gone.Store(true)
	if x.giveUp != nil {
		x.giveUp()
		return
	}
	x.up.link.interrupt()
}
