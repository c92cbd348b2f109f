package proxy

import (
	"errors"
	"io"
	"log/slog"
	"regexp"
	"testing"
)

// causes is the closed set of X-Sluice-Error with its statuses, as it is documented.
var causes = map[string]int{
	"bad_request": 400, "no_host": 400, "bad_host": 400, "unknown_host": 400, "method_refused": 405, "request_timeout": 408,
	"body_too_large": 413, "target_too_long": 414, "head_too_large": 431, "misdirected": 421, "client_gone": 499, "no_backend": 502,
	"backend_invalid": 502, "connect_failed": 502, "connect_timeout": 502, "backend_reset": 502, "bad_answer": 502,
	"retries_used_up": 502, "internal": 502, "store_unavailable": 503, "lookup_limited": 503, "backend_busy": 503,
	"draining": 503, "response_timeout": 504, "retry_timeout": 504, "loop": 508,
}

func TestOutcomes_ClosedSet(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for k := KindNone + 1; k < kindCount; k++ {
		label := k.String()
		if status, known := causes[label]; !known || status != k.Status() {
			t.Errorf("kind %d: %q with status %d, documented %d", k, label, k.Status(), status)
		}
		if seen[label] {
			t.Errorf("%q stands for two kinds", label)
		}
		seen[label] = true
		if outcomes[k].message == "" || reasons[k.Status()] == "" && k != KindClientGone {
			t.Errorf("%q has no message, or its status no reason", label)
		}
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(label) {
			t.Errorf("%q is no label", label)
		}
	}
	for label := range causes {
		if !seen[label] {
			t.Errorf("%q has no kind", label)
		}
	}
	if KindNone.String() != "" || KindNone.Status() != 0 {
		t.Error("no error has a label or a status")
	}
}

// What follows from an error must fit to whose fault it is.
func TestOutcomes_Consequences(t *testing.T) {
	t.Parallel()
	for k := KindNone + 1; k < kindCount; k++ {
		row := &outcomes[k]
		if row.mark && row.source != SourceBackend {
			t.Errorf("%v marks a backend for what it did not do", k)
		}
		if row.retry != retryNever && row.source != SourceBackend {
			t.Errorf("%v is tried again although no backend failed", k)
		}
		if row.source == SourceClient && row.status >= 500 && k != KindLoop {
			t.Errorf("%v blames the client with status %d", k, row.status)
		}
		if row.source == SourceClient && row.level > slog.LevelDebug && k != KindLoop {
			t.Errorf("%v lets clients fill the log", k)
		}
		if row.status == 400 && !row.closes && k != KindUnknownHost {
			t.Errorf("%v leaves a connection open whose next request can't be found", k)
		}
	}
	for k, want := range map[Kind]retryClass{
		KindConnectFailed: retryUnsent, KindConnectTimeout: retryUnsent, KindBackendReset: retryIdempotent,
		KindBackendBusy: retryElsewhere, KindResponseTimeout: retryNever, KindBadAnswer: retryNever,
	} {
		if got := outcomes[k].retry; got != want {
			t.Errorf("%v: retry class %d, want %d", k, got, want)
		}
	}
	for k, want := range map[Kind]bool{
		KindConnectTimeout: true, KindResponseTimeout: true, KindConnectFailed: false, KindBackendReset: false,
		KindBadAnswer: false, KindBackendBusy: false, KindClientGone: false,
	} {
		if got := failed(k).marks(); got != want {
			t.Errorf("%v: marks %v, want %v", k, got, want)
		}
	}
	if !(Error{Kind: KindConnectFailed, mark: true}).marks() {
		t.Error("a refused connection does not mark")
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	e := failed(KindBadHost)
	if e.Error() != "bad_host" || e.Unwrap() != nil || e.Source() != SourceClient {
		t.Errorf("got %q, %v, %v", e.Error(), e.Unwrap(), e.Source())
	}
	e = Error{Kind: KindBackendReset, Cause: io.ErrUnexpectedEOF}
	if e.Error() != "backend_reset: unexpected EOF" || !errors.Is(e, io.ErrUnexpectedEOF) || e.Source() != SourceBackend {
		t.Errorf("got %q, %v", e.Error(), e.Source())
	}
	var again Error
	used := Error{Kind: KindRetriesUsedUp, Cause: e}
	if !errors.As(used.Unwrap(), &again) || again.Kind != KindBackendReset || !errors.Is(used, io.ErrUnexpectedEOF) {
		t.Errorf("the last attempt's error is lost in %v", used)
	}
}
