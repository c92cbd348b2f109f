package main

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// serveFor starts a server for the open loop.
func serveFor(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + ln.Addr().String()
}

// nothing is to be done when the loop begins.
func nothing() error { return nil }

// TestOpenLoop_ChargesForWhatWaits stalls all answers for half a second once. A closed loop would see
// one slow request on each connection; by the schedule half of all requests were due meanwhile, and
// waited a quarter of a second on average.
func TestOpenLoop_ChargesForWhatWaits(t *testing.T) {
	t.Parallel()
	const rate, connections, stall = 200, 2, 500 * time.Millisecond
	var asked atomic.Int64
	stalledUntil := atomic.Pointer[time.Time]{}
	url := serveFor(t, func(w http.ResponseWriter, _ *http.Request) {
		// The first request learns the length of an answer, one more uses each connection.
		if asked.Add(1) == 2+connections {
			until := time.Now().Add(stall)
			stalledUntil.Store(&until)
		}
		if until := stalledUntil.Load(); until != nil {
			time.Sleep(time.Until(*until))
		}
		_, _ = w.Write([]byte("small"))
	})
	r, err := runOpenLoop(url, work{path: "/"}, connections, rate, time.Second, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors.total() != 0 || r.Requests < rate*8/10 || r.Requests > rate*12/10 {
		t.Errorf("%d requests, errors %v; want about %d", r.Requests, r.Errors, rate)
	}
	if r.P99 < 200_000 {
		t.Errorf("p99 is %d µs, want what the stall cost those that were due", r.P99)
	}
}

func TestOpenLoop_KeepsTheRate(t *testing.T) {
	t.Parallel()
	url := serveFor(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("small")) })
	const rate = 300
	r, err := runOpenLoop(url, work{path: "/"}, 4, rate, time.Second, nothing)
	if err != nil || r.Requests != rate {
		t.Errorf("%d requests, %v; want exactly %d: each that was due counts", r.Requests, err, rate)
	}
	warm, err := runOpenLoop(url, work{path: "/", clients: 4}, 4, rate, time.Second, nothing)
	if err != nil || warm.Requests != rate || warm.Unanswered > 0 {
		t.Errorf("%d requests, %d without an answer, %v after the same for warming up", warm.Requests, warm.Unanswered, err)
	}
	if closed, err := runOpenLoop(url, work{path: "/"}, 4, 0, time.Second, nothing); err != nil || closed.Requests < rate {
		t.Errorf("%d requests, %v as fast as answers come", closed.Requests, err)
	}
}

// TestOpenLoop_TellsWhatWasNeverAnswered asks a server that needs four times as long for an answer as
// there is between two requests.
func TestOpenLoop_TellsWhatWasNeverAnswered(t *testing.T) {
	t.Parallel()
	url := serveFor(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		_, _ = w.Write([]byte("small"))
	})
	const rate, most = 200, 50
	r, err := runOpenLoop(url, work{path: "/"}, 1, rate, time.Second, nothing)
	if err != nil || r.Requests != rate || r.Unanswered < rate-most-1 {
		t.Errorf("%d requests, %d of them unanswered, %v; want %d and all but %d", r.Requests, r.Unanswered, err, rate, most)
	}
	one := newSample("", "", time.Second, r)
	if one.Rate > most+1 || one.CPUMicros < float64(time.Second.Microseconds())/(most+1) {
		t.Errorf("%.0f requests/s, %.0f µs each: those without an answer count", one.Rate, one.CPUMicros)
	}
}

func TestOpenLoop_CountsBrokenConnections(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	url := serveFor(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 20 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("small"))
	})
	r, err := runOpenLoop(url, work{path: "/"}, 4, 100, time.Second, nothing)
	if err != nil || r.Errors.total() != 1 {
		t.Errorf("errors %v, %v; want one", r.Errors, err)
	}
	refusing := serveFor(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	if _, err := runOpenLoop(refusing, work{path: "/"}, 1, 100, time.Second, nothing); err == nil {
		t.Error("answers of 502 are taken for good ones")
	}
}
