package accesslog

import (
	"errors"
	"fmt"
	"time"
)

// How long callers wait for a sink that takes nothing. Close gives a sink that can be woken the
// shorter time, so that the goroutine ends before Close stops waiting for it.
const (
	controlTimeout = time.Second
	closeGrace     = 700 * time.Millisecond
	closeTimeout   = 900 * time.Millisecond
)

// errStuck is a sink in which a write has been waiting for too long.
var errStuck = errors.New("the sink takes no data")

// request is something that the goroutine is asked to do between two writes.
type request struct {
	do    func(*flusher) error
	reply chan error // has room for the answer
}

// Flush waits until all lines logged before the call are with the system. It gives up with an
// error when the sink fails, or has taken nothing for a second.
func (w *Writer) Flush() error {
	if w == nil {
		return nil
	}
	if err := w.ask((*flusher).flush); err != nil {
		return fmt.Errorf("flush access log %s: %w", w.path, err)
	}
	return nil
}

// Reopen writes what is in memory to the open file, opens the path again and goes on there; the
// log rotator has moved the old file away before. Nothing is lost. After an error, such as a folder
// in which the process may create nothing, the old file stays in use.
//
// Hipache: lib/accesslogger.js does this on SIGUSR1.
func (w *Writer) Reopen() error {
	if w == nil {
		return nil
	}
	if err := w.ask((*flusher).reopen); err != nil {
		return fmt.Errorf("reopen access log %s: %w", w.path, err)
	}
	return nil
}

// ask has the goroutine do something and returns its result, or errStuck after a second.
func (w *Writer) ask(do func(*flusher) error) error {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if closed { // The goroutine may be in its last write for longer than Close waits.
		return ErrClosed
	}
	timeout := time.NewTimer(controlTimeout)
	defer timeout.Stop()
	req := request{do: do, reply: make(chan error, 1)}
	select {
	case w.requests <- req:
	case <-w.done:
		return ErrClosed
	case <-timeout.C:
		return errStuck
	}
	select {
	case err := <-req.reply:
		return err
	case <-timeout.C:
		return errStuck
	}
}

// Close writes what is in memory and closes the log; lines logged later are dropped. It waits for
// less than a second: lines that the sink has not taken by then are lost, which the error says.
// Further calls do nothing.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	open := w.sink
	w.mu.Unlock()
	if !first {
		return nil
	}
	// Regular files and syslog know no deadline; then only the wait below is limited.
	_ = open.SetWriteDeadline(time.Now().Add(closeGrace))
	close(w.closing)
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-w.done:
		return w.closeError(nil)
	case <-timeout.C:
		return w.closeError(errStuck)
	}
}

// closeError is the result of Close: nil only if every line is written.
func (w *Writer) closeError(waited error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := errors.Join(waited, w.lastErr)
	if left := len(w.active) + w.inFlight; left > 0 {
		return fmt.Errorf("close access log %s: %d bytes were not written: %w", w.path, left, err)
	}
	if err != nil {
		return fmt.Errorf("close access log %s: %w", w.path, err)
	}
	return nil
}
