package proxy

import "strconv"

// Messages of Hipache for the end of all attempts (Hipache: lib/worker.js).
const (
	messageRetriesUsedUp = "Reached max retries limit"
	messageRetryDisabled = "Retry on error is disabled"
)

// another decides whether a failed attempt is followed by one more. It returns no error if so, and otherwise the error
// that ends the exchange. These are the rules:
//
// Nothing is sent again once a byte of an answer has gone to the client, nor later than RetryTimeout.
//
// Where nothing was sent, because connecting failed, every method is tried up to RetryOnError times more.
//
// Where the request was sent and the connection ended before the first byte of an answer, it is sent once more if its
// method is idempotent and its body is still whole in memory.
//
// A backend without room is passed over for another that has some; that is no failure and no attempt.
//
// Every retry looks the frontend up again and is counted against the frontend's budget.
func (s *Server) another(x *exchange, e Error) Error {
	if x.answered.Load() || x.gone.Load() || s.hardClosing.Load() {
		return e
	}
	switch outcomes[e.Kind].retry {
	case retryNever:
		return e
	case retryUnsent:
		if x.attempts > x.cfg.RetryOnError {
			return x.usedUp(e)
		}
	case retryIdempotent:
		_, whole := x.down.wholeBody()
		if !x.req.idempotent || !whole || e.heard || x.sent >= 2 || x.cfg.RetryOnError == 0 {
			return e
		}
	case retryElsewhere:
		if x.noneFree() {
			return e
		}
		x.attempts--
	}
	t := now()
	if limit := x.cfg.RetryTimeout; limit > 0 && x.first.until(t) >= limit {
		return Error{Kind: KindRetryTimeout, Cause: e}
	}
	s.refresh(x)
	if x.pick().Kind != KindNone {
		return e // Nobody is left to try: the last failure says more than that.
	}
	if e.Kind != KindBackendBusy {
		if !s.budget.retry(x.route.Frontend().Key, t) {
			s.metrics.retriesRefused.Inc()
			return Error{Kind: KindRetriesUsedUp, Cause: e}
		}
		s.metrics.retries[e.Kind].Inc()
	}
	return Error{}
}

// usedUp is the error after the last allowed attempt.
func (x *exchange) usedUp(e Error) Error {
	x.message = messageRetriesUsedUp
	if x.cfg.RetryOnError == 0 {
		x.message = messageRetryDisabled
	}
	return Error{Kind: KindRetriesUsedUp, Cause: e}
}

// refresh looks the frontend up again. If that fails, what was known goes on serving.
func (s *Server) refresh(x *exchange) {
	if route, err := s.lookup(x); err == nil {
		x.route = route
	}
}

// report marks the backend of a failed attempt dead, if the error says so.
func (s *Server) report(x *exchange, e Error) {
	if e.Source() == SourceBackend {
		s.metrics.attemptErrors[e.Kind].Inc()
	}
	if e.marks() {
		s.mark(x, e)
	}
}

// mark reports the exchange's backend dead: e says why, or the status of its answer does, if e is none. The only
// backend of a frontend is never marked (Hipache: lib/cache.js).
func (s *Server) mark(x *exchange, e Error) {
	if len(x.route.Frontend().Backends) < 2 {
		return
	}
	s.metrics.marks.Inc()
	if s.routes.MarkDead(&x.route, x.index) {
		s.logDeath(x, e)
	}
}

// logDeath tells the operator of a mark. It is no part of the exchange's own line, as a retry may have saved that one:
// without this, the log would know nothing of a backend that everybody else made up for.
func (s *Server) logDeath(x *exchange, e Error) {
	if !s.deaths.allow(e.Kind, now()) {
		return
	}
	cause, text := e.Kind.String(), e.Error()
	if e.Kind == KindNone {
		cause, text = "status", "answered "+strconv.Itoa(x.res.status)
	}
	s.log.Warn("backend marked dead", "cause", cause, "error", text,
		"host", string(x.host), "vhost", x.vhost(), "backend", x.backend.URL)
}

// marksStatus reports whether the status of an answer marks its backend (Hipache: lib/worker.js): 501 to 599, but not a
// 503 that says when to come back; and 500 while somebody checks whether the backend recovers.
func (s *Server) marksStatus(x *exchange) bool {
	switch status := x.res.status; {
	case status == 500:
		return x.cfg.DeadBackendOn500 && s.routes.CheckerAlive()
	case status == 503:
		return !x.res.retryAfter
	default:
		return status > 500 && status <= 599
	}
}
