package proxy

import "sync"

// streamWorkers are the goroutines that requests of HTTP/2 run in. They are used again, the last one first: its stack
// has grown already, and is in the processor's cache. Those that are left over end after parkAfter.
type streamWorkers struct {
	mu   sync.Mutex
	idle []*streamWorker // the longest idle first
	end  bool
}

type streamWorker struct {
	work  chan *h2Stream // closed to end it
	since instant
}

// run has a stream's request answered.
func (w *streamWorkers) run(hs *h2Stream) {
	w.mu.Lock()
	var sw *streamWorker
	if n := len(w.idle); n > 0 {
		sw = w.idle[n-1]
		w.idle[n-1] = nil
		w.idle = w.idle[:n-1]
	}
	w.mu.Unlock()
	if sw == nil {
		sw = &streamWorker{work: make(chan *h2Stream, 1)}
		go w.loop(sw)
	}
	sw.work <- hs
}

func (w *streamWorkers) loop(sw *streamWorker) {
	for hs := range sw.work {
		hs.work()
		if !w.rest(sw) {
			return
		}
	}
}

// rest puts a worker among the idle ones. It reports false when there are to be none any more.
func (w *streamWorkers) rest(sw *streamWorker) bool {
	sw.since = now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end {
		return false
	}
	w.idle = append(w.idle, sw)
	return true
}

// sweep ends the workers that nobody needed lately.
func (w *streamWorkers) sweep(t instant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.idle) && w.idle[n].since.until(t) > parkAfter {
		close(w.idle[n].work)
		n++
	}
	rest := copy(w.idle, w.idle[n:])
	clear(w.idle[rest:])
	w.idle = w.idle[:rest]
}

// close ends all workers: the idle ones now, the others when their requests are answered.
func (w *streamWorkers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = true
	for _, sw := range w.idle {
		close(sw.work)
	}
	w.idle = nil
}
