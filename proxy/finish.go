package proxy

import (
	"context"
	"time"

	"sluice/internal/accesslog"
)

// finish is the single exit of every request, after its last byte: one record in the access log, the metrics, and a
// line in the operational log where something failed. It is the only room that logs.
func (s *Server) finish(x *exchange) {
	end := now()
	x.end = end
	status := x.status
	if x.err.Kind != KindNone {
		s.metrics.errors[x.err.Kind].Inc()
		if x.err.Kind == KindClientGone {
			status = outcomes[KindClientGone].status
		}
		s.logFailure(x)
	}
	total := x.start.until(end)
	s.metrics.tally.count(status, x.attempts, total, x.backendTime, x.sentBytes, x.down.bodyBytes())
	if s.access != nil && s.access.Enabled() {
		s.logAccess(x, status, end, total)
	}
}

// logAccess writes the access-log record. Hipache skips requests that never got a backend; they are logged with the
// identifier `-` (Hipache: lib/worker.js).
func (s *Server) logAccess(x *exchange, status int, end instant, total time.Duration) {
	r := &x.req
	rec := &x.record
	*rec = accesslog.Record{
		Peer: x.peer.addr, Time: end.wall(), Method: r.method, Target: r.rawTarget, Proto: r.proto(),
		Host: r.authority, RequestID: x.id, VHost: x.vhost(), Cause: x.err.Kind.String(),
		Status: status, Bytes: x.sentBytes, Total: total, BackendTime: x.backendTime, Attempts: x.attempts,
		TLS: x.peer.proto == "https",
	}
	if r.b != nil {
		for i := range r.fields {
			switch f := &r.fields[i]; f.kind {
			case fieldReferer:
				rec.Referer = f.value.of(r.b)
			case fieldUserAgent:
				rec.UserAgent = f.value.of(r.b)
			case fieldForwardedFor:
				rec.ForwardedFor = f.value.of(r.b)
			}
		}
	}
	if x.backend != nil {
		rec.Backend = x.backend.URL
	}
	s.access.Log(rec)
}

// logFailure tells the operator of a failed exchange: what, for whom, at which backend, why. Errors of clients are told
// at debug level only, and a flood of equal lines is thinned out.
func (s *Server) logFailure(x *exchange) {
	level := x.err.logLevel()
	if !s.log.Enabled(context.Background(), level) || !s.throttle.allow(x.err.Kind, now()) {
		return
	}
	backend := ""
	if x.backend != nil {
		backend = x.backend.URL
	}
	s.log.Log(context.Background(), level, "request failed",
		"cause", x.err.Kind.String(), "error", x.err.Error(), "host", string(x.host), "vhost", x.vhost(),
		"backend", backend, "attempts", x.attempts, "client", x.peer.addr.String())
}
