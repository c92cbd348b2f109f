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
	live [1]metrics.Sample
}

const (
	servedBytes    = 12 << 10 // what a connection holds beyond a parked one, about
	tunnelEndBytes = 24 << 10 // what an end of a tunnel holds beyond one that rests, about
	minSlack       = 8 << 20  // less is not worth a collection
	collectEvery   = 30 * time.Second
)

func (k *slack) init() { k.live[0].Name = "/gc/heap/live:bytes" }

// held estimates what connections at work hold.
func (s *Server) held() int64 {
	served := s.conns.count() - int64(s.idle.parked())
	return served*servedBytes + (2*s.tunnels.Load()-s.resting.Load())*tunnelEndBytes
}

// settle is told what connections at work hold, and collects if what they held and do not any more is half as much as
// what is alive: for what it frees, a collection costs about what the runtime's own ones do then.
func (k *slack) settle(t instant, held int64) {
	k.peak = max(k.peak, held)
	freed := k.peak - held
	if freed < minSlack || k.last != 0 && k.last.until(t) < collectEvery {
		return
	}
	if metrics.Read(k.live[:]); 2*freed < int64(k.live[0].Value.Uint64()) {
		return
	}
	k.peak, k.last = held, t
	runtime.GC()
	debug.FreeOSMemory() // Pools let go of what they hold at the second collection only.
}
