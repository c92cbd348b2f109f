package proxy

import "runtime"

// turn decides whether a connection lets the others go first before it reads. Under load the bytes are there when its
// turn comes again, which saves a read that finds nothing, and the way through the poller. Where they are not, as with
// slow clients, turns are tried more and more rarely; where nobody else is at work there are none, as a turn would wake
// another thread to no purpose.
//
// A request must also wait in the poller once, as it does for its backend: goroutines that only yield would keep the
// scheduler from asking the poller at all.
type turn struct {
	skip   uint8 // reads without a turn before the next one
	misses uint8 // turns in a row that were of no use
}

const (
	maxTurnMisses = 6 // bounds how rare turns become: one in 2^maxTurnMisses-1 reads
	turnCompany   = 4 // requests that must be in flight for a turn to be of use
)

// take lets the others go first if that is likely to be of use. company is how many requests are in flight, as far as
// that is known. It reports whether it did.
func (t *turn) take(company int64) bool {
	if company < turnCompany {
		return false
	}
	if t.skip > 0 {
		t.skip--
		return false
	}
	runtime.Gosched()
	return true
}

// learn takes note of whether the bytes were there after a turn.
func (t *turn) learn(found bool) {
	if found {
		t.misses = 0
		return
	}
	t.misses = min(t.misses+1, maxTurnMisses)
	t.skip = 1<<t.misses - 2
}
