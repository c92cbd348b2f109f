package proxy

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// slack finds out when many connections have become idle at once: their stacks and buffers are garbage then, which the
// runtime collects only when as much has been allocated anew, or after two minutes. A proxy at rest allocates nothing.
type slack struct {
	peak int64   // bytes that connections at work held, the most since the last collection
	last instant // of that
	rest int     // times in a row that settle was told of as much
	live [1]metrics.Sample
}

const (
	servedBytes    = 40 << 10 // what a connection holds beyond a parked one, about, if its request waits for a backend
	tunnelEndBytes = 24 << 10 // what an end of a tunnel holds beyond one that rests, about
	minSlack       = 8 << 20  // less is not worth a collection
	collectEvery   = 30 * time.Second
	restSweeps     = 4 // sweeps after which goroutines that served have ended
)

func (k *slack) init() { k.live[0].Name = "/gc/heap/live:bytes" }

// held estimates what connections at work hold. crowd is how many connections there are, parked ones included.
func (s *Server) held(crowd int64) int64 {
	served := crowd - int64(s.idle.parked())
	return served*servedBytes + (2*s.tunnels.Load()-s.resting.Load())*tunnelEndBytes
}

// settle is told what connections at work hold, and the most that they have held since it was last told. It collects if
// what they held and do not any more is half as much as what is alive: for what it frees, a collection costs about what
// the runtime's own ones do then.
func (k *slack) settle(t instant, held, most int64) {
	k.peak = max(k.peak, held, most)
	freed := k.peak - held
	if freed < minSlack || k.last != 0 && k.last.until(t) < collectEvery {
		k.rest = 0
		return
	}
	if k.rest++; k.rest < restSweeps {
		return // Stacks are freed with their goroutines, which end within two seconds of their last connection.
	}
	if metrics.Read(k.live[:]); 2*freed < int64(k.live[0].Value.Uint64()) {
		return
	}
	k.peak, k.last, k.rest = held, t, 0
	runtime.GC()
	debug.FreeOSMemory() // Pools let go of what they hold at the second collection only.
}
