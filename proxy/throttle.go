package proxy

import (
	"sync/atomic"
	"time"
)

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
