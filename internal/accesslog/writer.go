// Package accesslog writes one line for each finished request, in Hipache's format or as JSON, to
// a file, standard output or syslog.
//
// Log formats a line and copies it into memory under a short lock; one goroutine takes what has
// gathered there to its sink. A request therefore never waits for a disk, a pipe or a syslog
// daemon: what does not fit into the bounded memory is dropped as a whole line and counted. The
// package knows nothing of HTTP and never interprets what a client sent, it only escapes it.
package accesslog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults of Options.
const (
	DefaultMaxPending    = 1 << 20
	DefaultFlushInterval = 100 * time.Millisecond
)

const (
	// Limit: longer lines are dropped. A line of a request head within the default limits has at
	// most this length with every byte escaped; syslog takes no message of more than about 200 KiB.
	maxLineBytes = 64 << 10
	// Limit: longer identifiers and backends are cut.
	maxStoredBytes = 1 << 10
	// urgeFraction is the part of MaxPending that is worth a write before FlushInterval is over. The
	// rest is room for the lines that come while the sink is slow.
	urgeFraction = 8
	// Limit: line buffers that grew beyond this are not kept.
	maxScratchBytes = 8 << 10
)

// ErrClosed is what Flush and Reopen return after Close.
var ErrClosed = errors.New("accesslog: closed")

// Options says what is written where.
type Options struct {
	// Path is a file (created with mode 0644, appended to), a fifo, or one of "stdout", "syslog"
	// and "none".
	Path string
	// Format is "hipache" (also the meaning of the empty string) or "json".
	Format string
	// Planb adds to Hipache's format what planb's has: the request id and the client's
	// X-Forwarded-For, each in quotes, between identifier and times. Ignored with "json".
	Planb bool
	// MaxPending limits the bytes that wait for the sink. 0 or less means DefaultMaxPending. Twice
	// as much address space is reserved, and memory used as far as lines ever gather.
	MaxPending int
	// FlushInterval is how long a line may wait in memory before it is written. 0 or less means
	// DefaultFlushInterval. An eighth of MaxPending is written at once.
	FlushInterval time.Duration
	// Log receives what goes wrong with the sink, at most one line a minute of each kind. Nil
	// discards it.
	Log *slog.Logger
	// Metrics receives the counters sluice_accesslog_*. Nil keeps them private.
	Metrics *metrics.Set
}

// Writer is an open access log. All methods are safe for concurrent use. A nil Writer is one with
// the path "none".
type Writer struct {
	// Immutable after Open.
	path          string
	layout        layout
	maxPending    int
	flushInterval time.Duration
	log           *slog.Logger
	begin         chan struct{} // a line was added to empty memory
	urge          chan struct{} // enough has gathered for a write of its own
	requests      chan request
	closing       chan struct{}
	done          chan struct{} // closed when the goroutine has ended

	clock   clock
	scratch sync.Pool // of *line

	mu       sync.Mutex // guards the following, never held over I/O
	active   []byte     // lines that the goroutine has not taken yet
	inFlight int        // bytes that it has taken and not written yet
	sink     sink       // replaced by the goroutine only
	closed   bool
	lastErr  error // how the last write went, set when the goroutine ends

	// Counters.
	written *metrics.Counter
	dropped *metrics.Counter
	failed  *metrics.Counter
}

// line is a buffer to format one line in.
type line struct{ text []byte }

// Open opens the log and starts its goroutine, which Close ends. A file that cannot be opened is
// an error; a syslog daemon that does not answer is not, as lines wait for it.
func Open(o Options) (*Writer, error) {
	layout, err := o.layout()
	if err != nil {
		return nil, err
	}
	if o.Path == "" {
		return nil, errors.New(`open access log: the path is empty; name a file, or "stdout", "syslog" or "none"`)
	}
	if o.Path == pathNone {
		return nil, nil //nolint:nilnil // a nil Writer is documented to be a log that writes nothing
	}
	sink, err := openSink(o.Path)
	if err != nil {
		return nil, err
	}
	w := newWriter(o, layout, sink)
	go newFlusher(w).run()
	return w, nil
}

// newWriter applies the defaults of o.
func newWriter(o Options, l layout, s sink) *Writer {
	if o.MaxPending <= 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.FlushInterval <= 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	return &Writer{
		path:          o.Path,
		layout:        l,
		maxPending:    o.MaxPending,
		flushInterval: o.FlushInterval,
		log:           o.Log,
		begin:         make(chan struct{}, 1),
		urge:          make(chan struct{}, 1),
		requests:      make(chan request),
		closing:       make(chan struct{}),
		done:          make(chan struct{}),
		scratch:       sync.Pool{New: func() any { return &line{text: make([]byte, 0, 1<<10)} }},
		active:        make([]byte, 0, o.MaxPending),
		sink:          s,
		written:       o.Metrics.GetOrCreateCounter("sluice_accesslog_lines_total"),
		dropped:       o.Metrics.GetOrCreateCounter("sluice_accesslog_dropped_total"),
		failed:        o.Metrics.GetOrCreateCounter("sluice_accesslog_write_errors_total"),
	}
}

// layout is the one that Format and Planb ask for.
func (o Options) layout() (layout, error) {
	switch o.Format {
	case "json":
		return layoutJSON, nil
	case "", "hipache":
		if o.Planb {
			return layoutPlanb, nil
		}
		return layoutHipache, nil
	}
	return 0, fmt.Errorf("open access log: format %q is unknown; use \"hipache\" or \"json\"", o.Format)
}

// Enabled says whether lines are written anywhere; if not, callers need not fill a Record.
func (w *Writer) Enabled() bool { return w != nil }

// Log adds a line for r, or drops it and counts it if memory is full or the log is closed. It
// allocates nothing, never waits for I/O, and keeps nothing of r.
//
// Lines stand in the log in the order of their calls. One buffer for all cores costs little: a
// line is formatted outside the lock, which is held for the copy of some 200 bytes: about 20 ns, or
// a five-hundredth of the time at 100 000 lines a second.
func (w *Writer) Log(r *Record) {
	if w == nil {
		return
	}
	l := w.scratch.Get().(*line)
	l.text = appendLine(l.text[:0], w.layout, w.clock.at(r.Time), r)
	if !w.add(l.text) {
		w.dropped.Inc()
	}
	if cap(l.text) <= maxScratchBytes {
		w.scratch.Put(l)
	}
}

// add copies a line into memory and wakes the goroutine where it must know. False means that the
// line did not fit.
func (w *Writer) add(text []byte) bool {
	w.mu.Lock()
	before := len(w.active)
	after := before + len(text)
	if w.closed || after+w.inFlight > w.maxPending || len(text) > maxLineBytes {
		w.mu.Unlock()
		return false
	}
	w.active = append(w.active, text...)
	w.mu.Unlock()
	if before == 0 {
		notify(w.begin)
	}
	if much := w.maxPending / urgeFraction; before < much && after >= much {
		notify(w.urge)
	}
	return true
}

// notify leaves a token in c unless there is one already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
