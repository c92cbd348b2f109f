package proxy

import (
	"errors"
	"fmt"
	"log/slog"
)

// Kind is what went wrong with an exchange: a closed set. Its String is the value of X-Sluice-Error, the label of
// sluice_errors_total and the cause in the access log.
type Kind uint8

// The kinds. Zero means that nothing went wrong.
const (
	KindNone Kind = iota
	KindBadRequest
	KindNoHost
	KindBadHost
	KindUnknownHost
	KindMethodRefused
	KindRequestTimeout
	KindBodyTooLarge
	KindTargetTooLong
	KindMisdirected
	KindHeadTooLarge
	KindClientGone
	KindNoBackend
	KindBackendInvalid
	KindConnectFailed
	KindConnectTimeout
	KindBackendReset
	KindBadAnswer
	KindRetriesUsedUp
	KindInternal
	KindStoreUnavailable
	KindLookupLimited
	KindBackendBusy
	KindDraining
	KindResponseTimeout
	KindRetryTimeout
	KindLoop
	kindCount
)

// Source says on whose side an error arose.
type Source uint8

// The sources.
const (
	SourceClient Source = iota
	SourceBackend
	SourceCache
	SourceInternal
)

// outcome is one row of the table that maps a kind to everything that follows from it.
type outcome struct {
	label   string
	status  int
	source  Source
	message string // X-Debug-Error, and the body where there is no page (Hipache: lib/worker.js)
	level   slog.Level
	retry   retryClass
	mark    bool // the backend is reported dead
	closes  bool // the client's connection can't go on: where the request ends is not known, or not worth waiting for
}

// retryClass says which rule of retry.go an error falls under.
type retryClass uint8

const (
	retryNever      retryClass = iota
	retryUnsent                // nothing was sent: any method
	retryIdempotent            // sent, no answer: idempotent methods whose body is still whole
	retryElsewhere             // this backend has no room: another one, which is not counted as a failure
)

// outcomes is the one place where a kind gets a status.
var outcomes = [kindCount]outcome{
	KindNone:           {"", 0, SourceInternal, "", slog.LevelDebug, retryNever, false, false},
	KindBadRequest:     {"bad_request", 400, SourceClient, "Bad request", slog.LevelDebug, retryNever, false, true},
	KindNoHost:         {"no_host", 400, SourceClient, "no host header", slog.LevelDebug, retryNever, false, true},
	KindBadHost:        {"bad_host", 400, SourceClient, "Bad host header", slog.LevelDebug, retryNever, false, true},
	KindUnknownHost:    {"unknown_host", 400, SourceClient, "frontend not found", slog.LevelDebug, retryNever, false, false},
	KindMethodRefused:  {"method_refused", 405, SourceClient, "Method not allowed", slog.LevelDebug, retryNever, false, true},
	KindRequestTimeout: {"request_timeout", 408, SourceClient, "Request timeout", slog.LevelDebug, retryNever, false, true},
	KindBodyTooLarge:   {"body_too_large", 413, SourceClient, "Request body too large", slog.LevelDebug, retryNever, false, true},
	KindTargetTooLong:  {"target_too_long", 414, SourceClient, "Request target too long", slog.LevelDebug, retryNever, false, true},
	KindMisdirected:    {"misdirected", 421, SourceClient, "Host not served on this connection", slog.LevelDebug, retryNever, false, false},
	KindHeadTooLarge:   {"head_too_large", 431, SourceClient, "Request header fields too large", slog.LevelDebug, retryNever, false, true},
	KindClientGone:     {"client_gone", 499, SourceClient, "Client closed the connection", slog.LevelDebug, retryNever, false, true},

	KindNoBackend:      {"no_backend", 502, SourceCache, "Cannot find a valid backend", slog.LevelWarn, retryNever, false, false},
	KindBackendInvalid: {"backend_invalid", 502, SourceCache, "backend is invalid", slog.LevelWarn, retryNever, false, false},
	KindConnectFailed:  {"connect_failed", 502, SourceBackend, "Cannot connect to the backend", slog.LevelWarn, retryUnsent, false, false},
	KindConnectTimeout: {"connect_timeout", 502, SourceBackend, "Connecting to the backend timed out", slog.LevelWarn, retryUnsent, true, false},
	KindBackendReset:   {"backend_reset", 502, SourceBackend, "The backend closed the connection", slog.LevelWarn, retryIdempotent, false, false},
	KindBadAnswer:      {"bad_answer", 502, SourceBackend, "The backend sent an invalid answer", slog.LevelWarn, retryNever, false, false},
	KindRetriesUsedUp:  {"retries_used_up", 502, SourceBackend, "Reached max retries limit", slog.LevelWarn, retryNever, false, false},
	KindInternal:       {"internal", 502, SourceInternal, "Internal error", slog.LevelError, retryNever, false, true},

	KindStoreUnavailable: {"store_unavailable", 503, SourceCache, "The route store is unavailable", slog.LevelWarn, retryNever, false, false},
	KindLookupLimited:    {"lookup_limited", 503, SourceCache, "Too many lookups of unknown hosts", slog.LevelDebug, retryNever, false, false},
	KindBackendBusy:      {"backend_busy", 503, SourceBackend, "The backend has no free connection", slog.LevelWarn, retryElsewhere, false, false},
	KindDraining:         {"draining", 503, SourceInternal, "Shutting down", slog.LevelDebug, retryNever, false, true},
	KindResponseTimeout:  {"response_timeout", 504, SourceBackend, "The backend did not answer in time", slog.LevelWarn, retryNever, true, false},
	KindRetryTimeout:     {"retry_timeout", 504, SourceBackend, "Retrying took too long", slog.LevelWarn, retryNever, false, false},
	KindLoop:             {"loop", 508, SourceClient, "Forwarding loop", slog.LevelWarn, retryNever, false, false},
}

// String returns the label of the kind.
func (k Kind) String() string { return outcomes[k].label }

// Status returns the status that clients get for the kind.
func (k Kind) Status() int { return outcomes[k].status }

// Error is a failed exchange or attempt. It is a value: making one allocates nothing.
type Error struct {
	Kind   Kind
	Cause  error // what the operating system or a library said; nil if the kind says it all
	mark   bool  // the cause marks the backend although its kind does not always
	unsent bool  // no byte of the request was written
	heard  bool  // bytes of an answer had come
}

// failed returns an Error of a kind that needs no cause.
func failed(k Kind) Error { return Error{Kind: k} }

// Error names the kind and the cause.
func (e Error) Error() string {
	if e.Cause == nil {
		return e.Kind.String()
	}
	return fmt.Sprintf("%s: %v", e.Kind, e.Cause)
}

// Unwrap returns the cause.
func (e Error) Unwrap() error { return e.Cause }

// Source says on whose side the error arose.
func (e Error) Source() Source { return outcomes[e.Kind].source }

// logLevel returns the level that an error is logged at.
func (e Error) logLevel() slog.Level { return outcomes[e.Kind].level }

// marks reports whether the backend that the error came from is to be reported dead.
func (e Error) marks() bool { return e.mark || outcomes[e.Kind].mark }

// Errors of the message readers, mapped to kinds by whoever read on which side.
var (
	errBodySyntax   = errors.New("body is not framed as announced")
	errBodyLimit    = errors.New("body is larger than allowed")
	errHeadCut      = errors.New("head ended before its end")
	errBodyCut      = errors.New("body ended before its end")
	errSlowPeer     = errors.New("no progress within the time limit")
	errHeadSyntax   = errors.New("head is malformed")
	errHeadLimit    = errors.New("head is larger than allowed")
	errUnaskedFor   = errors.New("switched protocols unasked")
	errTooManyInter = errors.New("too many interim answers")
)
