package proxy

import (
	"bytes"
	"errors"
	"io"
)

// relay sends the answer whose head has been read to the client.
func (s *Server) relay(x *exchange) Error {
	x.status = x.res.status
	if x.status == 101 {
		return s.tunnel(x)
	}
	if s.marksStatus(x) {
		s.mark(x, Error{})
	}
	reusable := x.res.reusable
	x.upload.settle()
	// An answer that comes before the request's end leaves no telling where the next request would begin.
	x.closing = x.closing || x.announced || x.upload.running() || x.upload.failed()
	if x.res.options && x.res.framing == framingChunked {
		// Its Connection fields judge the trailers, which come when the buffer has other bytes.
		x.res.b = bytes.Clone(x.res.b)
	}
	x.resBody.start(&x.up.source, x.res.framing, x.res.contentLength)
	if err := x.down.writeHead(&x.res); err != nil {
		x.letGo(false)
		return Error{Kind: KindClientGone, Cause: err}
	}
	x.route.Prefetch() // For the access log.
	e := x.relayBody()
	// The connection goes back before the client gets the last bytes: whoever sends the next request upon them finds it
	// free.
	x.letGo(e.Kind == KindNone && reusable && x.cleanUpstream())
	if e.Kind == KindNone {
		e = x.flushHead()
	}
	return e
}

// relayBody copies the body; its end is left to be flushed. Bytes go out as soon as nothing more is buffered: an event
// stream is never held back, and an answer that came in one piece leaves in one.
func (x *exchange) relayBody() Error {
	b := &x.resBody
	x.expect(x.cfg.BackendBodyIdleTimeout, true)
	for {
		p, err := b.ready()
		if len(p) == 0 && err == nil {
			if e := x.flushHead(); e.Kind != KindNone {
				return e
			}
			p, err = b.next()
		}
		if len(p) > 0 {
			if werr := x.down.writeBody(p); werr != nil {
				return Error{Kind: KindClientGone, Cause: werr}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return x.bodyError(err)
		}
	}
	if x.res.options {
		b.trailer.dropListed(&x.res.head)
	}
	if err := x.down.endBody(&b.trailer); err != nil {
		return Error{Kind: KindClientGone, Cause: err}
	}
	return Error{}
}

// flushHead sends what was held back, the head first.
func (x *exchange) flushHead() Error {
	if err := x.down.flush(); err != nil {
		return Error{Kind: KindClientGone, Cause: err}
	}
	return Error{}
}

// bodyError maps an error of reading the answer's body. The head has been promised: the client learns of the cut by an
// end of its connection that can't be the body's.
func (x *exchange) bodyError(err error) Error {
	if errors.Is(err, errBodySyntax) {
		return Error{Kind: KindBadAnswer, Cause: err}
	}
	return x.readError(err)
}

// cleanUpstream reports whether the backend's connection holds nothing of this exchange any more and may carry another.
func (x *exchange) cleanUpstream() bool {
	up := x.up
	switch {
	case !x.resBody.done() || x.upload.running() || x.upload.failed() || x.announced:
		return false
	case len(up.buffered()) > 0:
		up.pool.surplus(now())
		return false
	case up.pool.single():
		return false
	}
	// A backend that sends a body where there is none sends it right behind the head.
	up.suspect = x.res.framing == framingNone
	return true
}
