package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"log/syslog"
	"os"
	"syscall"
	"time"
)

// Values of Options.Path that are no files.
const (
	pathStdout = "stdout"
	pathSyslog = "syslog"
	pathNone   = "none"
)

// sink is where batches of whole lines go. Write and Close are called by the writer's goroutine
// only; SetWriteDeadline, which wakes a Write that waits where the system can do that, by any.
type sink interface {
	Write(batch []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	Close() error
}

var (
	_ sink = (*os.File)(nil)
	_ sink = (*syslogSink)(nil)
)

// openSink opens what path names. It never waits.
func openSink(path string) (sink, error) {
	switch path {
	case pathStdout:
		return dupStdout()
	case pathSyslog:
		return &syslogSink{dial: dialSyslog}, nil
	}
	return openFile(path)
}

// openFile opens a file or a fifo for appending.
func openFile(path string) (*os.File, error) {
	// Hipache: lib/accesslogger.js creates the file with this mode.
	const mode = 0o644
	// O_NONBLOCK has no meaning for a regular file. A fifo without a reader refuses it; opened for
	// reading too, it has one and keeps what its buffer holds until somebody comes.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, mode)
	if errors.Is(err, syscall.ENXIO) {
		f, err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	return f, nil
}

// dupStdout returns standard output under a number of its own: it can be closed without closing
// the process's, and a reader that goes away is an error of the log, where for number 1 it would be
// the end of the process (see package os/signal on SIGPIPE).
func dupStdout() (*os.File, error) {
	conn, err := os.Stdout.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("open access log on standard output: %w", err)
	}
	var fd int
	var dupErr error
	if err = conn.Control(func(stdout uintptr) { fd, dupErr = syscall.Dup(int(stdout)) }); err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("open access log on standard output: %w", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "/dev/stdout"), nil
}

// syslogSink sends each line as a message. Dialling may wait for the daemon, so it happens at the
// first write, not at opening.
type syslogSink struct {
	dial func() (*syslog.Writer, error)
	conn *syslog.Writer
}

// dialSyslog connects to the daemon of this machine. The facility is planb's.
func dialSyslog() (*syslog.Writer, error) {
	return syslog.New(syslog.LOG_INFO|syslog.LOG_LOCAL0, "sluice")
}

// Write sends the lines of batch until one fails, and returns how many bytes of it were sent; a
// line is sent whole or not at all.
func (s *syslogSink) Write(batch []byte) (int, error) {
	if s.conn == nil {
		conn, err := s.dial()
		if err != nil {
			return 0, fmt.Errorf("connect to syslog: %w", err)
		}
		s.conn = conn
	}
	sent := 0
	for line := range bytes.Lines(batch) {
		if _, err := s.conn.Write(line); err != nil {
			return sent, fmt.Errorf("send to syslog: %w", err)
		}
		sent += len(line)
	}
	return sent, nil
}

// SetWriteDeadline cannot be done: package log/syslog keeps its socket to itself.
func (s *syslogSink) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// Close ends the connection, if there is one.
func (s *syslogSink) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
