package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor makes system calls on a connection's descriptor that the scheduler is not told of: reads and writes of a
// few pages and looks, none of which waits for anything. A call that it is told of costs it two more turns, and one
// that wakes the peer lasts long enough for the runtime's monitor to move the whole processor to another thread.
//
// Its functions are made once, so that a call allocates nothing. One goroutine may read or look and one may write at a
// time.
type descriptor struct {
	raw syscall.RawConn // nil if the connection has no descriptor

	// Of the reader.
	once   func(fd uintptr)      // does op
	waits  func(fd uintptr) bool // does op, false if there is nothing yet
	op     operation
	in     []byte
	n      int
	errno  syscall.Errno
	saw    sight
	one    [1]byte
	waited bool // the last read found nothing at first

	// Of the writer.
	writes func(fd uintptr) bool // writes out, false if there is no room for all of it yet
	out    []byte
	sent   int
	wrerr  syscall.Errno
}

// operation is what a descriptor does for its reader.
type operation uint8

const (
	opLook operation = iota // with MSG_PEEK
	opRead
	opAsk // write out, then opRead
)

// rawBytes is how much one raw call may carry: the time of copying it is that of any other code between two points at
// which the scheduler may step in.
const rawBytes = bodyBuffer

// init must be called before anything else.
func (d *descriptor) init(c net.Conn) {
	if sc, ok := c.(syscall.Conn); ok {
		d.raw, _ = sc.SyscallConn()
	}
	d.once = func(fd uintptr) { d.try(fd) }
	d.waits = d.try
	d.writes = d.tryWrite
}

// try does op once and reports whether there is a result.
func (d *descriptor) try(fd uintptr) bool {
	if d.op == opAsk {
		d.op = opRead
		d.tryWrite(fd)
		// The poller was told to forget what it saw before this write, see RawRead in internal/poll: what comes from now on
		// wakes the reader. Looking before would find nothing yet.
		return d.sent < len(d.out)
	}
	if d.op == opLook {
		d.peek(fd)
		return d.saw != sightQuiet
	}
	d.n, d.errno = rawRead(fd, d.in)
	again := d.errno == unix.EAGAIN
	d.waited = d.waited || again
	return !again
}

// tryWrite writes what is left of out and reports whether there is nothing more to be done.
func (d *descriptor) tryWrite(fd uintptr) bool {
	for d.sent < len(d.out) {
		n, errno := rawWrite(fd, d.out[d.sent:])
		if errno != 0 {
			d.wrerr = errno
			return errno != unix.EAGAIN
		}
		d.sent += n
	}
	return true
}

// peek looks at the socket without reading.
func (d *descriptor) peek(fd uintptr) {
	n, errno := rawPeek(fd, d.one[:])
	switch {
	case errno == unix.EAGAIN:
		d.saw = sightQuiet
	case errno != 0:
		d.saw = sightBroken
	case n > 0:
		d.saw = sightData
	default:
		d.saw = sightFIN
	}
}

// fits reports whether n bytes may go through a raw call.
func (d *descriptor) fits(n int) bool { return d.raw != nil && n > 0 && n <= rawBytes }

// read reads up to len(p) bytes, which must fit, waiting for them until the socket's deadline.
func (d *descriptor) read(p []byte) (int, error) {
	d.op, d.in, d.waited = opRead, p, false
	return d.result(d.raw.Read(d.waits))
}

// ask writes q, waits until the socket's deadline and reads up to len(p) bytes; both must fit. Nothing may have come
// that was not read yet: it is noticed only with what comes later. sent is what was written of q; if that is not all of
// it and err is nil, the socket takes no more just now.
func (d *descriptor) ask(q, p []byte) (sent, n int, err error) {
	d.op, d.in, d.out, d.sent, d.wrerr, d.waited = opAsk, p, q, 0, 0, true
	failed := d.raw.Read(d.waits)
	d.out = nil
	switch {
	case d.wrerr != 0 && d.wrerr != unix.EAGAIN:
		err = os.NewSyscallError("write", d.wrerr)
	case failed != nil || d.sent == len(q):
		n, err = d.result(failed)
	}
	d.in = nil
	return d.sent, n, err
}

// readNow reads what the socket holds, whatever its deadline. It returns errInterrupted if that is nothing.
func (d *descriptor) readNow(p []byte) (int, error) {
	d.op, d.in = opRead, p
	failed := d.raw.Control(d.once)
	if failed == nil && d.errno == unix.EAGAIN {
		d.in = nil
		return 0, errInterrupted
	}
	return d.result(failed)
}

// result returns what opRead left. failed is why the operation could not be done or waited for.
func (d *descriptor) result(failed error) (int, error) {
	d.in = nil
	switch {
	case failed != nil:
		return 0, waitFailure(failed)
	case d.errno != 0:
		return 0, os.NewSyscallError("read", d.errno)
	case d.n == 0:
		return 0, io.EOF
	}
	return d.n, nil
}

// write writes all of p, which must fit, waiting for room until the socket's deadline.
func (d *descriptor) write(p []byte) (int, error) {
	d.out, d.sent, d.wrerr = p, 0, 0
	failed := d.raw.Write(d.writes)
	d.out = nil
	switch {
	case failed != nil:
		return d.sent, waitFailure(failed)
	case d.sent < len(p):
		return d.sent, os.NewSyscallError("write", d.wrerr)
	}
	return d.sent, nil
}

// waitFailure gives an error of the poller the name that package net has for it.
func waitFailure(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return net.ErrClosed
}
