package accesslog

import (
	"bytes"
	"errors"
	"time"
)

const (
	// retryInterval is the wait after a failed write, during which lines gather in memory.
	retryInterval = time.Second
	// reportInterval is the least time between two log lines about the same kind of trouble.
	reportInterval = time.Minute
)

// flusher is the goroutine of a Writer: the only one that writes. Its fields are its own.
type flusher struct {
	w     *Writer
	timer *time.Timer
	batch []byte // taken from memory and not written yet
	spare []byte // the buffer that becomes the active one when batch is taken
	torn  bool   // the sink's last byte is no line feed: batch starts within a line

	failing     bool // the last write failed
	told        bool // and a log line said so
	errorReport time.Time
	dropReport  time.Time
	dropsTold   uint64 // dropped lines that were reported already
}

func newFlusher(w *Writer) *flusher {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &flusher{
		w:         w,
		timer:     timer,
		spare:     make([]byte, 0, w.maxPending),
		dropsTold: w.dropped.Get(),
	}
}

// run writes what gathers until Close. Errors are reported where they happen and tried again.
func (f *flusher) run() {
	defer close(f.w.done)
	for {
		select {
		case <-f.w.begin:
			if !f.failing {
				f.timer.Reset(f.w.flushInterval)
			}
		case <-f.timer.C:
			_ = f.flush()
		case <-f.w.urge:
			if !f.failing {
				_ = f.flush()
			}
		case req := <-f.w.requests:
			req.reply <- req.do(f)
		case <-f.w.closing:
			f.finish()
			return
		}
	}
}

// flush writes what is left of an earlier batch and what has gathered since.
func (f *flusher) flush() error {
	err := f.write()
	if err == nil {
		f.take()
		err = f.write()
	}
	f.report(err)
	return err
}

// take makes what has gathered the batch, which must be empty, and gives its buffer back.
func (f *flusher) take() {
	f.w.mu.Lock()
	f.batch, f.w.active = f.w.active, f.spare[:0]
	f.w.inFlight = len(f.batch)
	f.w.mu.Unlock()
	f.spare = f.batch[:0]
}

// write writes the batch, or as much of it as goes. The rest stays for the next time, so that a
// disk that is full for a while costs only what memory does not hold.
func (f *flusher) write() error {
	if len(f.batch) == 0 {
		return nil
	}
	n, err := f.w.sink.Write(f.batch)
	if n > 0 {
		f.w.written.Add(bytes.Count(f.batch[:n], newline))
		f.torn = f.batch[n-1] != '\n'
		f.advance(n)
	}
	return err
}

var newline = []byte{'\n'}

// advance takes n bytes from the batch.
func (f *flusher) advance(n int) {
	f.batch = f.batch[n:]
	f.w.mu.Lock()
	f.w.inFlight -= n
	f.w.mu.Unlock()
}

// reopen replaces the sink by a new one of the same path.
func (f *flusher) reopen() error {
	next, err := openSink(f.w.path)
	if err != nil {
		return err
	}
	// What cannot be written to the old file goes to the new one, except the rest of a line that
	// began in the old one.
	_ = f.flush()
	if f.torn {
		f.advance(bytes.IndexByte(f.batch, '\n') + 1)
		f.w.dropped.Inc()
		f.torn = false
	}
	old := f.w.sink
	f.w.mu.Lock()
	f.w.sink = next
	f.w.mu.Unlock()
	if f.failing {
		_ = f.flush()
	}
	return old.Close()
}

// finish is the end: what cannot be written now is lost and counted.
func (f *flusher) finish() {
	f.timer.Stop()
	err := errors.Join(f.flush(), f.w.sink.Close())
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.dropped.Add(bytes.Count(f.batch, newline) + bytes.Count(f.w.active, newline))
	f.w.lastErr = err
}

// report counts and logs the result of a flush, and sets the time of the next one after an error.
func (f *flusher) report(err error) {
	f.reportDrops()
	if err == nil {
		if f.told {
			f.w.log.Info("access log is written again", "path", f.w.path)
		}
		f.failing, f.told = false, false
		return
	}
	f.w.failed.Inc()
	f.timer.Reset(retryInterval)
	f.failing = true
	if now := time.Now(); now.Sub(f.errorReport) >= reportInterval {
		f.errorReport, f.told = now, true
		f.w.log.Error("cannot write access log; lines wait in memory and are dropped when it is full",
			"path", f.w.path, "error", err)
	}
}

// reportDrops logs how many lines were dropped since it last did.
func (f *flusher) reportDrops() {
	dropped := f.w.dropped.Get()
	now := time.Now()
	if dropped == f.dropsTold || now.Sub(f.dropReport) < reportInterval {
		return
	}
	f.w.log.Warn("access log lines were dropped: the sink is slower than the requests, or a line was longer than 64 KiB",
		"path", f.w.path, "lines", dropped-f.dropsTold)
	f.dropsTold, f.dropReport = dropped, now
}
