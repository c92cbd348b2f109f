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
	peak int64   // connections with a goroutine, the most since the last collection
	last instant // of that
	live [1]metrics.Sample
}

const (
	servedBytes  = 12 << 10 // what a connection holds beyond a parked one, about
	minSlack     = 8 << 20  // less is not worth a collection
	collectEvery = 30 * time.Second
)

func (k *slack) init() { k.live[0].Name = "/gc/heap/live:bytes" }

// settle is told how many connections have a goroutine, and collects if the garbage of those that have none any more
// is half as much as what is alive: for what it frees, a collection costs about what the runtime's own ones do then.
func (k *slack) settle(t instant, served int64) {
	k.peak = max(k.peak, served)
	freed := (k.peak - served) * servedBytes
	if freed < minSlack || k.last != 0 && k.last.until(t) < collectEvery {
		return
	}
	if metrics.Read(k.live[:]); 2*freed < int64(k.live[0].Value.Uint64()) {
		return
	}
	k.peak, k.last = served, t
	runtime.GC()
	debug.FreeOSMemory() // Pools let go of what they hold at the second collection only.
}
