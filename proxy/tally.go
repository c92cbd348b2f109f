package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/histogram"
)

// tallyShares is how many cores can count without sharing a cache line.
const tallyShares = 64

// tally counts what every request counts. One word for all cores would travel between them with each request, and there
// are eight of them; so each core has words of its own as long as there are no more cores than tallyShares.
type tally struct {
	shares [tallyShares]tallyShare
	handed atomic.Uint32
	// tokens hands each processor of the scheduler the share that it had before, without a lock.
	tokens sync.Pool
}

// tallyShare is what one core has counted. It begins and ends with its own cache lines.
type tallyShare struct {
	_           [64]byte
	requests    [statusClasses]atomic.Uint64 // by first digit of the status; [0] for what had none
	attempts    atomic.Uint64
	sent        atomic.Uint64 // bytes of answers' bodies
	received    atomic.Uint64 // bytes of requests' bodies
	duration    histogram.Histogram
	backendTime histogram.Histogram
	_           [64]byte
}

const statusClasses = 6

// init makes the series.
func (t *tally) init(set *metrics.Set) {
	for i, class := range [statusClasses]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		t.register(set, `sluice_requests_total{status="`+class+`"}`, func(s *tallyShare) uint64 {
			return s.requests[i].Load()
		})
	}
	t.register(set, "sluice_attempts_total", func(s *tallyShare) uint64 { return s.attempts.Load() })
	t.register(set, "sluice_response_body_bytes_total", func(s *tallyShare) uint64 { return s.sent.Load() })
	t.register(set, "sluice_request_body_bytes_total", func(s *tallyShare) uint64 { return s.received.Load() })
	durations := make([]*histogram.Histogram, 0, len(t.shares))
	backendTimes := make([]*histogram.Histogram, 0, len(t.shares))
	for i := range t.shares {
		durations = append(durations, &t.shares[i].duration)
		backendTimes = append(backendTimes, &t.shares[i].backendTime)
	}
	histogram.Sum(set, "sluice_request_duration_seconds", durations)
	histogram.Sum(set, "sluice_backend_duration_seconds", backendTimes)
}

// register makes a series of the sum over all shares.
func (t *tally) register(set *metrics.Set, name string, of func(*tallyShare) uint64) {
	set.NewGauge(name, func() float64 { return float64(t.sum(of)) })
}

// sum returns what all shares have counted together.
func (t *tally) sum(of func(*tallyShare) uint64) (sum uint64) {
	for i := range t.shares {
		sum += of(&t.shares[i])
	}
	return sum
}

// requests returns how many requests were counted.
func (t *tally) requests() uint64 {
	return t.sum(func(s *tallyShare) (n uint64) {
		for class := range s.requests {
			n += s.requests[class].Load()
		}
		return n
	})
}

// count counts a finished request.
func (t *tally) count(status, attempts int, total, backend time.Duration, sent, received int64) {
	s, ok := t.tokens.Get().(*tallyShare)
	if !ok {
		s = &t.shares[t.handed.Add(1)%tallyShares] // Slow path: a collection of garbage has emptied the pool.
	}
	s.count(status, attempts, total, backend, sent, received)
	t.tokens.Put(s)
}

func (s *tallyShare) count(status, attempts int, total, backend time.Duration, sent, received int64) {
	class := status / 100
	if class < 1 || class >= statusClasses {
		class = 0
	}
	s.requests[class].Add(1)
	s.duration.Update(total)
	if attempts > 0 {
		s.attempts.Add(uint64(attempts))
	}
	if backend > 0 {
		s.backendTime.Update(backend)
	}
	if sent > 0 {
		s.sent.Add(uint64(sent))
	}
	if received > 0 {
		s.received.Add(uint64(received))
	}
}
