package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linkError is an error of a link's own. It says that it is temporary, else crypto/tls would make it permanent.
type linkError string

func (e linkError) Error() string   { return string(e) }
func (e linkError) Timeout() bool   { return true }
func (e linkError) Temporary() bool { return true }

const (
	errTimedOut    linkError = "time limit exceeded"
	errInterrupted linkError = "interrupted"
)

// link is a TCP connection, to a client or a backend, under TLS where there is TLS. It adds three things.
//
// Time limits that cost nothing while they are kept: a deadline is armed at most once per eighth of its length, not for
// each message, and one that fires early is armed again.
//
// Writes are bound by progress, not by an absolute deadline: a peer that drains slowly but steadily is served for ever.
//
// A wait can be interrupted by another goroutine, and the socket can be looked at without reading from it.
//
// One goroutine may read and one may write at a time; interrupt, reset and Close may be called by any.
type link struct {
	net.Conn
	raw syscall.RawConn

	readLimit instant // the reader gives up at this time; 0 = never
	readArmed instant // the deadline set on the socket; 0 = none

	writeWindow time.Duration // a write must make progress within it; 0 = no limit
	writeRate   int           // progress is this many bytes a second over the window; 0 = any byte
	writeArmed  instant

	interrupted atomic.Bool

	atOnce bool // the reader wants what is there and does not wait

	early []byte // bytes read off the socket before the connection was anybody's; Read gives them out first

	peeker peeker
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	if sc, ok := c.(syscall.Conn); ok {
		l.raw, _ = sc.SyscallConn()
	}
	l.peeker.init()
	return l
}

// limitRead lets the following reads last until d from t. Zero lifts the limit.
func (l *link) limitRead(t instant, d time.Duration) {
	if d <= 0 {
		l.readLimit = 0
		if l.readArmed != 0 {
			l.armRead(0)
		}
		return
	}
	l.readLimit = t.after(d)
	if l.readArmed > t.after(d/8) && l.readArmed <= l.readLimit {
		return // Fast path: it fires in time, if early.
	}
	l.armRead(l.readLimit)
}

// armRead sets the socket's deadline. An interrupt that came before must not be undone by it.
func (l *link) armRead(at instant) {
	l.readArmed = at
	_ = l.Conn.SetReadDeadline(deadline(at))
	if l.interrupted.Load() {
		_ = l.Conn.SetReadDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

func deadline(at instant) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return at.wall()
}

// Read reads what is there, waiting until the limit. It returns errTimedOut at the limit and errInterrupted after an
// interrupt.
func (l *link) Read(p []byte) (int, error) {
	if len(l.early) > 0 {
		n := copy(p, l.early)
		l.early = l.early[n:]
		return n, nil
	}
	if l.atOnce {
		return l.readNow(p)
	}
	for {
		n, err := l.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if l.interrupted.Load() {
			return 0, errInterrupted
		}
		if l.readLimit != 0 && now() >= l.readLimit {
			return 0, errTimedOut
		}
		l.armRead(l.readLimit)
	}
}

// readNow reads what the socket holds, whatever its deadline. It returns errInterrupted if that is nothing.
func (l *link) readNow(p []byte) (int, error) {
	k := &l.peeker
	k.into = p
	broken := l.raw.Control(k.read)
	k.into = nil
	switch {
	case broken != nil:
		return 0, broken
	case k.err == unix.EAGAIN || k.err == unix.EINTR:
		return 0, errInterrupted
	case k.err != nil:
		return 0, k.err
	case k.n == 0:
		return 0, io.EOF
	}
	return k.n, nil
}

// Write writes all of p. It returns errSlowPeer when the peer takes less than its rate over a window.
func (l *link) Write(p []byte) (int, error) {
	if l.writeWindow <= 0 {
		return l.Conn.Write(p)
	}
	start, t := now(), 0
	if l.writeArmed <= start.after(l.writeWindow/8) {
		l.armWrite(start.after(l.writeWindow))
	}
	for got, queued, tries := 0, -1, 0; ; tries++ {
		n, err := l.Conn.Write(p[t:])
		t, got = t+n, got+n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return t, err
		}
		at := now()
		if elapsed := start.until(at); elapsed >= l.writeWindow && tries > 0 {
			before := queued
			queued = l.unsent()
			// The kernel goes on making room for a peer that takes nothing: what it queues meanwhile is no progress. How much
			// lay there before the first window is not known.
			if before >= 0 {
				got -= queued - before
			}
			if got <= 0 || float64(got) < float64(l.writeRate)*elapsed.Seconds() {
				return t, errSlowPeer
			}
			start, got = at, 0
		}
		// The kernel calls a socket writable only when a third of its buffer is free, which may be megabytes: what the peer
		// has taken meanwhile shows by trying.
		l.armWrite(at.after(l.writeWindow / 8))
	}
}

// unsent returns how many written bytes the peer has not acknowledged.
func (l *link) unsent() (n int) {
	if l.raw == nil {
		return 0
	}
	_ = l.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}

func (l *link) armWrite(at instant) {
	l.writeArmed = at
	_ = l.Conn.SetWriteDeadline(at.wall())
}

// interrupt makes the present or the next wait of the reader return errInterrupted.
func (l *link) interrupt() {
	l.interrupted.Store(true)
	_ = l.Conn.SetReadDeadline(longAgo)
}

// resume takes an interrupt back. Only the reader calls it.
func (l *link) resume() {
	l.interrupted.Store(false)
	l.armRead(l.readLimit)
}

// Limits of a lingering close: a client that still sends is read for a while, so that it gets to read the answer before
// the RST that unread bytes would cause (RFC 9112 §9.6).
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 20 // Limit
)

// discard reads and drops what the peer still sends, within the limits of a lingering close. buf is scratch.
func (l *link) discard(buf []byte) {
	l.limitRead(now(), lingerTime)
	for n := 0; n < lingerBytes; {
		m, err := l.Read(buf)
		if err != nil {
			return
		}
		n += m
	}
}

// closeWrite sends a FIN after what was written.
func (l *link) closeWrite() error {
	if tcp, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// reset closes the connection with an RST, so that the peer can't take what it got for the whole.
func (l *link) reset() {
	if tcp, ok := l.Conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = l.Conn.Close()
}

// sight is what a look at a socket shows.
type sight uint8

const (
	sightQuiet  sight = iota // nothing to read
	sightData                // bytes
	sightFIN                 // the peer has finished writing
	sightBroken              // an error
)

// peeker looks at a socket with MSG_PEEK. Its functions are made once, so that a look allocates nothing.
type peeker struct {
	now  func(fd uintptr)      // looks once
	wait func(fd uintptr) bool // looks, and reports whether there is something to see
	saw  sight
	one  [1]byte

	read func(fd uintptr) // reads once, for readNow
	into []byte
	n    int
	err  error
}

func (p *peeker) init() {
	p.now = func(fd uintptr) {
		// unix.Recvfrom would allocate the address that nobody asks for. Unsafe: the kernel writes to p.one, which lives
		// as long as the link. The call can't block, so the scheduler needs not to know of it.
		n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p.one[0])), uintptr(len(p.one)),
			unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			p.saw = sightQuiet
		case err == 0 && n > 0:
			p.saw = sightData
		case err != 0:
			p.saw = sightBroken
		default:
			p.saw = sightFIN
		}
	}
	p.read = func(fd uintptr) { p.n, p.err = unix.Read(int(fd), p.into) }
	p.wait = func(fd uintptr) bool {
		p.now(fd)
		return p.saw != sightQuiet
	}
}

// look reports what the reader would find now. Only the reader calls it.
func (l *link) look() sight {
	if l.raw == nil || l.raw.Control(l.peeker.now) != nil {
		return sightBroken
	}
	return l.peeker.saw
}

// await waits until the reader would find something, without reading it. It obeys the deadline of the socket and
// returns io.EOF's sight at once.
func (l *link) await() (sight, error) {
	if l.raw == nil {
		return sightBroken, io.ErrClosedPipe
	}
	if err := l.raw.Read(l.peeker.wait); err != nil {
		return sightQuiet, err
	}
	return l.peeker.saw, nil
}

// Poll events of a peer that has gone: hungUp is final in both directions, finished is a FIN, maybe behind unread
// bytes.
const (
	hungUp   = unix.POLLERR | unix.POLLHUP
	finished = unix.POLLRDHUP | hungUp
)

// events returns which of the poll events hold. A closed socket is hung up.
func (l *link) events() int16 {
	var got int16 = hungUp
	_ = l.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if _, err := unix.Poll(fds, 0); err == nil {
			got = fds[0].Revents
		}
	})
	return got
}
