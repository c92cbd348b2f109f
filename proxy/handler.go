package proxy

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"sluice/cache"
)

// handle answers one request: the table of contents of its way through the rooms. Every request leaves through finish.
func (s *Server) handle(x *exchange) {
	defer s.fence(x)
	if x.err.Kind == KindNone {
		x.err = s.answer(x)
	}
	s.settle(x)
	s.finish(x)
}

// answer takes a well-formed request through lookup and forwarding.
func (s *Server) answer(x *exchange) Error {
	if s.answersItself(x) {
		return Error{}
	}
	if e := s.admit(x); e.Kind != KindNone {
		return e
	}
	if s.answersChallenge(x) {
		return Error{}
	}
	route, err := s.lookup(x)
	if err != nil {
		return x.lookupError(err)
	}
	x.route, x.routed = route, true
	x.route.Prefetch()
	if s.obeyPolicy(x) {
		return Error{}
	}
	return s.forward(x)
}

// pingHost is the Host that load balancers ask whether the edge is alive (Hipache: lib/worker.js).
const pingHost = "__ping__"

// answersItself answers the ping and the last hop of an OPTIONS request.
func (s *Server) answersItself(x *exchange) bool {
	switch {
	case string(x.req.authority) == pingHost && (x.cfg.Compat == CompatHipache || string(x.req.path) == "/"):
		x.ping()
	case x.req.maxForward == 0:
		x.down.writeOwn(&ownAnswer{status: 200, allow: true}) // RFC 9110 §7.6.2
	default:
		return false
	}
	return true
}

// ping answers that the edge takes traffic, 503 while it drains. planb's ping asks the store as well.
func (x *exchange) ping() {
	a := ownAnswer{status: 200, contentType: "text/plain", body: []byte("OK")}
	if x.cfg.Compat == CompatHipache {
		a.body = []byte("ok")
	}
	if x.srv.draining.Load() {
		a = ownAnswer{status: 503, contentType: "text/plain", body: []byte("draining"), cause: KindDraining.String()}
	} else if x.cfg.Compat == CompatPlanb {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := x.srv.routes.Ping(ctx); err != nil {
			a = ownAnswer{
				status: 500, contentType: "text/plain", body: []byte("store unavailable"),
				cause: KindStoreUnavailable.String(),
			}
		}
	}
	x.down.writeOwn(&a)
}

// admit applies the checks that need nothing but the head.
func (s *Server) admit(x *exchange) Error {
	x.debug = x.req.debug && x.mayDebug()
	if x.req.absolute && !x.req.hostIsValid() {
		return failed(KindBadHost)
	}
	host, err := cache.AppendHost(x.hostBuf[:0], x.req.authority)
	switch {
	case errors.Is(err, cache.ErrNoHost):
		return failed(KindNoHost)
	case err != nil:
		return failed(KindBadHost)
	}
	x.host = host
	if covers := x.peer.covers; covers != nil && !covers(host) {
		return failed(KindMisdirected)
	}
	if limit := x.cfg.MaxBodyBytes; limit > 0 && x.req.contentLength > limit {
		return failed(KindBodyTooLarge)
	}
	if x.req.loops() {
		return failed(KindLoop)
	}
	if x.req.upgrade != nil {
		x.req.upgrade = x.passedUpgrade()
	}
	x.identify()
	return Error{}
}

// mayDebug reports whether this client gets debug headers.
func (x *exchange) mayDebug() bool {
	switch x.cfg.DebugHeaders {
	case DebugAll:
		return true
	case DebugNone:
		return false
	}
	return x.cfg.vouchedFor(x.peer.addr)
}

// passedUpgrade returns the first of the protocols that the client offers, in its order, that is one that is passed,
// and nil if none is. The backend is told of no other, so that it can't switch to one (RFC 9110 §7.8).
func (x *exchange) passedUpgrade() []byte {
	if x.req.framing != framingNone {
		return nil
	}
	for i := range x.req.fields {
		f := &x.req.fields[i]
		if f.kind != fieldUpgrade {
			continue
		}
		for list, more := f.value.of(x.req.b), true; more; {
			var e []byte
			if e, list, more = nextElement(list); x.cfg.passesUpgrade(e) {
				return e
			}
		}
	}
	return nil
}

// passesUpgrade reports whether an Upgrade to protocol is passed.
func (c *Config) passesUpgrade(protocol []byte) bool {
	for _, u := range c.Upgrades {
		if bytes.EqualFold(protocol, []byte(u)) {
			return true
		}
	}
	return false
}

// identify finds the request's id if one is wanted: the client's own, or one of ours (planb).
func (x *exchange) identify() {
	name := x.cfg.RequestIDHeader
	if name == "" {
		return
	}
	for i := range x.req.fields {
		if f := &x.req.fields[i]; bytes.EqualFold(f.name.of(x.req.b), []byte(name)) {
			x.id = f.value.of(x.req.b)
			return
		}
	}
	text, _ := uuid.New().MarshalText()
	x.id, x.idOurs = append(x.idBuf[:0], text...), true
}

// lookup resolves the host, by memory in all but rare cases. planb looks host:port up first.
func (s *Server) lookup(x *exchange) (cache.Route, error) {
	client := x.clientAddr()
	if x.cfg.Compat == CompatPlanb {
		if port := x.req.authority[bytes.LastIndexByte(x.req.authority, ':')+1:]; len(port) < len(x.req.authority) &&
			bytes.IndexByte(port, ']') < 0 {
			key := append(append(x.hostBuf[len(x.host):len(x.host)], x.host...), ':')
			if route, err := s.routes.LookupExact(append(key, port...), client); err == nil {
				return route, nil
			}
		}
	}
	return s.routes.Lookup(x.host, client)
}

// lookupRetryAfter is the Retry-After of a 503 that comes from the store, in seconds.
const lookupRetryAfter = 1

// lookupError maps an error of the cache.
func (x *exchange) lookupError(err error) Error {
	switch {
	case errors.Is(err, cache.ErrUnknownHost):
		return Error{Kind: KindUnknownHost}
	case errors.Is(err, cache.ErrLookupLimited):
		x.retryAfter = lookupRetryAfter
		return Error{Kind: KindLookupLimited}
	}
	x.retryAfter = lookupRetryAfter
	return Error{Kind: KindStoreUnavailable, Cause: err}
}

// settle gives the client of a failed exchange what it can still get: an answer, or an end that can't be mistaken for
// one.
func (s *Server) settle(x *exchange) {
	switch {
	case x.err.Kind == KindNone:
		return
	case x.err.Kind == KindClientGone, x.answered.Load():
		x.down.abort()
	default:
		x.closing = x.closing || outcomes[x.err.Kind].closes
		a := s.errorAnswer(x)
		x.down.writeOwn(&a)
	}
}

// fence keeps a panic in a request from ending the process: it costs that request, and is told.
func (s *Server) fence(x *exchange) {
	r := recover()
	if r == nil {
		return
	}
	s.tellPanic("request", r)
	func() {
		defer func() { _ = recover() }() // The state may be broken in more than one place.
		x.letGo(false)
	}()
	x.err = failed(KindInternal)
	x.closing = true
	s.settle(x)
	s.finish(x)
}

// reusable reports whether what carried x may carry another request: whatever a panic has left undone may still know
// it.
func (x *exchange) reusable() bool { return x.err.Kind != KindInternal }

// survive keeps a panic in a goroutine from ending the process, where no fence is around or the fence itself failed.
// end gives up what the goroutine worked on. It is deferred.
func (s *Server) survive(where string, end func()) {
	if r := recover(); r != nil {
		s.tellPanic(where, r)
		end()
	}
}

func (s *Server) tellPanic(where string, r any) {
	s.metrics.panics.Inc()
	if !s.panics.allow(KindInternal, now()) {
		return // A client may be able to repeat it at will, and each line has a stack.
	}
	s.log.Error("panic in a "+where, "panic", r, "stack", string(debug.Stack()))
}

// lingers reports whether bytes of the request may still be on their way although its end was not found.
func (x *exchange) lingers() bool {
	k := x.err.Kind
	return k != KindNone && k != KindClientGone && outcomes[k].closes
}
