package threads

import (
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	// lookEvery is the time between looks while there is work, restEvery while there is little.
	lookEvery = 200 * time.Millisecond
	restEvery = time.Second
	// little is the work, in cores, below which looks are rare.
	little = 0.5
)

// Options of a Follower. All fields are optional.
type Options struct {
	Log     *slog.Logger // gets a line for each change, at debug level
	Metrics *metrics.Set // gets sluice_thread_changes_total
	// Done returns how many requests were served since the start. Fewer threads are not kept if each request costs more
	// then.
	Done func() uint64
}

// Follower sets the number of threads (GOMAXPROCS) as the load asks for, until it is closed.
type Follower struct {
	log   *slog.Logger
	count func() uint64 // of requests
	fewer *metrics.Counter
	more  *metrics.Counter
	stop  chan struct{}
	done  sync.WaitGroup
}

// Start begins to follow the load, from the runtime's own choice on. Where that is one thread there is
// nothing to follow.
func Start(o Options) *Follower {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Done == nil {
		o.Done = func() uint64 { return 0 }
	}
	f := &Follower{
		log:   o.Log,
		count: o.Done,
		fewer: o.Metrics.NewCounter(`sluice_thread_changes_total{to="fewer"}`),
		more:  o.Metrics.NewCounter(`sluice_thread_changes_total{to="more"}`),
		stop:  make(chan struct{}),
	}
	g := newGovernor(runtime.GOMAXPROCS(0))
	f.done.Go(func() { f.run(g) })
	return f
}

// Close ends the following and gives all threads back.
func (f *Follower) Close() {
	close(f.stop)
	f.done.Wait()
}

func (f *Follower) run(g *governor) {
	defer f.set(g, g.most)
	before, err := f.read()
	for wait := restEvery; err == nil && g.most > 1; {
		select {
		case <-time.After(wait):
		case <-f.stop:
			return
		}
		var now accounts
		if now, err = f.read(); err != nil {
			break
		}
		l := now.since(before)
		before = now
		g.allowed(runtime.GOMAXPROCS(0))
		f.set(g, g.next(l))
		wait = lookEvery
		if g.threads == g.most && l.used < little {
			wait = restEvery
		}
	}
	if err != nil {
		f.log.Warn("number of threads does not follow the load: the kernel's accounts cannot be read", "error", err)
	}
}

// read reads the accounts of the kernel, and ours.
func (f *Follower) read() (accounts, error) {
	a, err := readAccounts()
	a.done = f.count()
	return a, err
}

// set makes it so. All threads are the runtime's own choice, which follows the limits that the
// process is under.
func (f *Follower) set(g *governor, threads int) {
	was := runtime.GOMAXPROCS(0)
	if threads == was {
		return
	}
	if threads < g.most {
		runtime.GOMAXPROCS(threads)
	} else {
		runtime.SetDefaultGOMAXPROCS()
	}
	counter := f.more
	if threads < was {
		counter = f.fewer
	}
	counter.Inc()
	f.log.Debug("threads follow the load", "from", was, "to", runtime.GOMAXPROCS(0))
}
