package proxy

import (
	"sync/atomic"
	"time"
)

// secondLimit bounds events per second. The zero value is ready.
type secondLimit struct {
	second atomic.Int64
	events atomic.Int64
}

// allow reports whether one more event fits into t's second.
func (l *secondLimit) allow(limit int, t instant) bool {
	if s := int64(t) / int64(time.Second); l.second.Swap(s) != s {
		l.events.Store(0)
	}
	return l.events.Add(1) <= int64(limit)
}

// used returns how many events t's second has had.
func (l *secondLimit) used(t instant) int {
	if l.second.Load() != int64(t)/int64(time.Second) {
		return 0
	}
	return int(l.events.Load())
}

// Limits of equal log lines: a burst of each kind in a window, then silence until the next one.
const (
	logWindow = 10 * time.Second
	logBurst  = 20
)

// throttle thins out log lines per kind of error. What it drops is counted in sluice_errors_total all the same.
type throttle struct {
	slots [kindCount]struct {
		window atomic.Int64
		lines  atomic.Int64
	}
}

// allow reports whether a line of this kind may be written at time t.
func (h *throttle) allow(k Kind, t instant) bool {
	s := &h.slots[k]
	if w := int64(t) / int64(logWindow); s.window.Swap(w) != w {
		s.lines.Store(0)
	}
	return s.lines.Add(1) <= logBurst
}
