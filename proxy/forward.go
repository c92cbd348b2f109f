package proxy

import (
	"errors"
	"io"
	"time"
)

// continueAfter is how long a backend may be silent about an announced body before the client is told to send it
// (RFC 9110 §10.1.1).
const continueAfter = time.Second

// forward sends the request to one backend after another until one answers, and the answer to the client. It returns
// what ended the exchange; the answer has been sent, in full or cut, if nothing did.
func (s *Server) forward(x *exchange) Error {
	if x.req.upgrade != nil {
		if !s.beginTunnel() {
			return failed(KindBackendBusy)
		}
		defer s.endTunnel()
	}
	if e := x.down.collectBody(); e.Kind != KindNone {
		return e
	}
	if e := x.pick(); e.Kind != KindNone {
		return e
	}
	x.first = now()
	s.budget.request(x.route.Frontend().Key, x.first)
	for {
		e := s.attempt(x)
		if e.Kind == KindNone {
			return s.relay(x)
		}
		s.report(x, e)
		x.letGo(false)
		if e = s.another(x, e); e.Kind != KindNone {
			return e
		}
	}
}

// attempt sends the request to the chosen backend and reads the head of its answer.
func (s *Server) attempt(x *exchange) Error {
	start := x.first
	if x.attempts > 0 {
		start = now()
	}
	x.attempts++
	x.phase = phase{}
	x.tried = append(x.tried, x.backend.Key)
	e := s.connect(x, start)
	for e.Kind == KindNone {
		if e = x.send(); !e.unsent {
			break
		}
		// The connection was found dead before a byte was written: dialling again is no attempt.
		s.metrics.deadIdle.Inc()
		x.letGo(false)
		e = s.connect(x, start)
	}
	if e.Kind == KindNone {
		e = x.awaitHead()
	}
	x.backendTime = start.until(now())
	return e
}

// connect gets the exchange a place at its backend and a connection to it.
func (s *Server) connect(x *exchange, t instant) Error {
	p := s.pools.get(x.backend)
	limit := x.cfg.MaxBackendConnections
	if !p.enter(limit) {
		if !x.noneFree() {
			x.full = append(x.full, x.index)
			s.metrics.limited[limitBackend].Inc()
			return failed(KindBackendBusy)
		}
		var e Error
		if p, e = x.queue(p, limit); e.Kind != KindNone {
			return e
		}
		t = now() // Idle connections have aged while the request stood in the queue.
	}
	x.pool = p
	_, whole := x.down.wholeBody()
	up, err := p.connection(x, t, !x.req.idempotent || !whole) // What can't be sent again deserves a look.
	if err != nil {
		return dialError(err)
	}
	up.wait, x.up = x, up
	return Error{}
}

// noneFree reports whether no other live backend of the frontend is left to try: only then is it worth queueing.
func (x *exchange) noneFree() bool {
	list := x.route.Frontend().Backends
	for i := range list {
		if list[i].Err == nil && x.route.Alive(i) && x.untried(&list[i]) {
			return false
		}
	}
	return true
}

// ownFields is room for what the proxy adds to a head.
const ownFields = 512

// send writes the head, and with it a body that is in memory. A longer body is streamed from there on; one that waits
// to be asked for is not.
func (x *exchange) send() Error {
	body, whole := x.down.wholeBody()
	announced := x.req.expects && !whole && !x.down.bodyBegun()
	x.up.head.acquire(len(x.req.b) + len(body) + ownFields)
	defer x.up.head.release()
	out := x.appendRequestHead(x.up.head.b[:0], announced)
	if whole {
		out = append(out, body...)
	}
	if whole && x.up.uses > 1 && x.up.tcp() && x.up.link.mayAsk(out) {
		return x.ask(out)
	}
	n, err := x.up.rw.Write(out)
	if e := x.wrote(n, err); e.Kind != KindNone {
		return e
	}
	x.announced = announced
	if !whole && !announced {
		x.startUpload()
	}
	return Error{}
}

// ask sends a whole request and reads the first bytes of the answer, in one operation: nothing can have come on a
// connection that was found quiet, so that it pays to wait before the first look.
func (x *exchange) ask(out []byte) Error {
	l := x.up.link
	l.question, l.asked = out, 0
	x.expect(x.cfg.ResponseTimeout, false)
	err := x.up.fill()
	if l.question != nil {
		l.question = nil
		if errors.Is(err, errClientGone) {
			return x.waitError(err) // Nothing was written, and not because the connection is dead.
		}
		return x.wrote(l.asked, err)
	}
	x.sent++
	if err != nil {
		return x.waitError(err)
	}
	return Error{}
}

// wrote takes note of n bytes of a request that were written, and maps the error that ended that.
func (x *exchange) wrote(n int, err error) Error {
	if n > 0 {
		x.sent++
	}
	if err == nil {
		return Error{}
	}
	e := writeError(err)
	e.unsent = n == 0 && x.up.uses > 1 && e.Kind == KindBackendReset
	return e
}

// writeError maps an error of writing to a backend. One that takes nothing more has not said what it did with the rest.
func writeError(err error) Error {
	if errors.Is(err, errSlowPeer) {
		return Error{Kind: KindResponseTimeout, Cause: err}
	}
	return Error{Kind: KindBackendReset, Cause: err}
}

var answerRules = headRules{maxBytes: maxAnswerHead, maxFields: maxAnswerField, lenient: true}

// awaitHead reads heads until the final one, passing interim answers on.
func (x *exchange) awaitHead() Error {
	for interim := 0; ; interim++ {
		e := x.readHead(interim == 0)
		if e.Kind != KindNone {
			return e
		}
		switch {
		case x.res.status >= 200:
			return Error{}
		case x.res.status == 101:
			if !x.res.switches(x.req.upgrade) {
				return Error{Kind: KindBadAnswer, Cause: errUnaskedFor}
			}
			return Error{}
		case interim == maxInterim:
			return Error{Kind: KindBadAnswer, Cause: errTooManyInter}
		case x.res.status == 100:
			e = x.askForBody()
		default:
			if err := x.down.writeInterim(&x.res); err != nil {
				e = Error{Kind: KindClientGone, Cause: err}
			}
		}
		if e.Kind != KindNone {
			return e
		}
		x.res.reset()
	}
}

// readHead reads one head; the wait for the first one may have begun. A backend that keeps silent about an announced
// body gets it after a second.
func (x *exchange) readHead(first bool) Error {
	limit := x.cfg.ResponseTimeout
	if x.announced {
		limit = continueAfter
	}
	for begun := first && x.phase.since != 0; ; begun = false {
		if !begun {
			x.expect(limit, false)
		}
		n, bad, err := x.up.scanHead(&x.res.head, &answerRules)
		switch {
		case bad == KindHeadTooLarge || bad == KindTargetTooLong:
			return Error{Kind: KindBadAnswer, Cause: errHeadLimit}
		case bad != KindNone:
			return Error{Kind: KindBadAnswer, Cause: errHeadSyntax}
		case errors.Is(err, errTimedOut) && x.announced:
			limit = x.cfg.ResponseTimeout
			if e := x.askForBody(); e.Kind != KindNone {
				return e
			}
			continue
		case err != nil:
			return x.waitError(err)
		}
		x.up.r += n // The head stays where it is until the body's first read, and is sent on before that.
		if !x.res.judge(x.req.isHead) {
			return Error{Kind: KindBadAnswer, Cause: errHeadSyntax}
		}
		return Error{}
	}
}

// askForBody lets the client send the body that it announced.
func (x *exchange) askForBody() Error {
	if !x.announced {
		return Error{} // RFC 9110 §15.2: an unexpected 100 is ignored.
	}
	x.announced = false
	if err := x.down.continueBody(); err != nil {
		return Error{Kind: KindClientGone, Cause: err}
	}
	x.startUpload()
	return Error{}
}

// startUpload begins to stream the body. Whoever reads the client sees it leave: the watch ends.
func (x *exchange) startUpload() {
	x.unwatch()
	x.upload.start()
}

func (x *exchange) unwatch() {
	if x.watched {
		x.watched = false
		x.down.unwatch()
	}
}

// waitError maps an error of reading the head of a backend's answer.
func (x *exchange) waitError(err error) Error {
	if errors.Is(err, io.EOF) && x.heard {
		return Error{Kind: KindBadAnswer, Cause: errHeadCut}
	}
	return x.readError(err)
}

// readError maps an error of reading a backend's answer, be it in the head or in the body.
func (x *exchange) readError(err error) Error {
	switch {
	case errors.Is(err, errClientGone):
		return Error{Kind: KindClientGone, Cause: err}
	case errors.Is(err, errUploadFailed):
		return x.upload.err
	case errors.Is(err, errTimedOut):
		return Error{Kind: KindResponseTimeout, Cause: err}
	}
	return Error{Kind: KindBackendReset, Cause: err, heard: x.heard}
}

// letGo ends the exchange's hold on its backend: the watch and the upload end, then the connection is kept for reuse if
// it is clean, else closed.
func (x *exchange) letGo(clean bool) {
	x.unwatch()
	if up := x.up; up != nil {
		x.up = nil
		clean = clean && !x.upload.running()
		if clean {
			x.upload.stop()
			up.keep(now())
		} else {
			_ = up.link.Close() // Under TLS: a farewell could wait for a peer that takes nothing.
			x.upload.stop()
			up.drop()
		}
	}
	if x.pool != nil {
		x.company = x.pool.leave()
		x.pool = nil
	}
	x.heard, x.announced = false, false
	x.res.reset()
}
