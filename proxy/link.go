package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

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

// ClientAddr returns the address of the client at the other end, which a PROXY header may have named. It is for those
// who see the connection during its TLS handshake.
func (l *link) ClientAddr() netip.Addr { return l.client }

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
	descriptor
	client netip.Addr // of a client's connection: who is at its other end

	readLimit instant // the reader gives up at this time; 0 = never
	readArmed instant // the deadline set on the socket; 0 = none

	writeWindow time.Duration // the peer must take writeShare bytes of what is pending within it; 0 = no limit
	writeShare  int64
	writeArmed  bool    // a deadline is set for the next look at what the peer has taken
	windowStart instant // of the present window
	written     int64   // bytes handed to the kernel
	taken       int64   // bytes that the peer had acknowledged when the window began
	owed        int64   // bytes that it will have acknowledged when all that was pending then has arrived

	interrupted atomic.Bool

	atOnce bool // the reader wants what is there and does not wait

	early []byte // bytes read off the socket before the connection was anybody's; Read gives them out first

	question []byte // what the next Read writes before it waits; nil once that is done. See mayAsk
	asked    int    // what was written of it
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	l.descriptor.init(c)
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
		if l.early = l.early[n:]; len(l.early) == 0 {
			l.early = nil // The connection may rest for long.
		}
		return n, nil
	}
	if l.atOnce {
		return l.readNow(p)
	}
	for {
		n, err := l.readOnce(p)
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

// readOnce reads once, within the deadline of the socket. A question is written first.
func (l *link) readOnce(p []byte) (int, error) {
	switch {
	case l.question != nil:
		return l.askOnce(p)
	case l.fits(len(p)):
		return l.read(p)
	}
	return l.Conn.Read(p)
}

// askOnce writes the question and reads once.
func (l *link) askOnce(p []byte) (int, error) {
	sent, n, err := l.ask(l.question, p)
	l.asked = sent
	l.written += int64(sent)
	if sent == len(l.question) {
		l.question = nil
		return n, err
	}
	if err != nil {
		return 0, err
	}
	sent, err = l.Write(l.question[sent:])
	if l.asked += sent; err != nil {
		return 0, err
	}
	l.question = nil
	return l.readOnce(p)
}

// mayAsk reports whether q may be a question.
func (l *link) mayAsk(q []byte) bool { return l.fits(len(q)) }

// limitWrite has the peer take rate bytes a second of what is pending, over a window; at a rate of 0 any byte will do.
// A window of 0 lifts the limit. Only the writer calls it.
func (l *link) limitWrite(window time.Duration, rate int) {
	if window <= 0 && l.writeWindow > 0 {
		_ = l.Conn.SetWriteDeadline(time.Time{})
	}
	l.writeWindow, l.writeShare = window, max(1, int64(float64(rate)*window.Seconds()))
	l.writeArmed = false
}

// Write writes all of p. It returns errSlowPeer when the peer is slower than the limit.
//
// Fast path: the deadline that is armed is not passed; nothing else is asked.
func (l *link) Write(p []byte) (int, error) {
	if l.writeWindow <= 0 {
		return l.writeOnce(p)
	}
	if !l.writeArmed {
		l.takesEnough(len(p))
	}
	for t := 0; ; {
		n, err := l.writeOnce(p[t:])
		t, l.written = t+n, l.written+int64(n)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return t, err
		}
		if !l.takesEnough(len(p) - t) {
			return t, errSlowPeer
		}
	}
}

// writeOnce writes all of p within the deadline of the socket.
func (l *link) writeOnce(p []byte) (int, error) {
	if l.fits(len(p)) {
		return l.descriptor.write(p)
	}
	return l.Conn.Write(p)
}

// takesEnough judges the peer and arms the deadline for the next look. rest is how many bytes are about to be written.
//
// What counts is what the peer has acknowledged, not what the kernel has room for. A window ends well when the peer has
// taken its share, or all that was pending when it began; then the next begins. One that lasts too long is the end.
func (l *link) takesEnough(rest int) bool {
	t, taken := now(), l.written-int64(l.unsent())
	switch {
	case taken >= l.owed || taken-l.taken >= l.writeShare:
		l.windowStart, l.taken, l.owed = t, taken, l.written+int64(rest)
	case l.windowStart.until(t) >= l.writeWindow:
		return false
	}
	l.writeArmed = true
	_ = l.Conn.SetWriteDeadline(t.after(l.writeWindow / 8).wall())
	return true
}

// unsent returns how many written bytes the peer has not acknowledged.
func (l *link) unsent() int {
	if l.written == 0 {
		return 0
	}
	return l.queued()
}

// queued is unsent for goroutines that do not write.
func (l *link) queued() (n int) {
	if l.raw == nil {
		return 0
	}
	_ = l.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
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

// look reports what the reader would find now. Only the reader calls it.
func (l *link) look() sight {
	l.op = opLook
	if l.raw == nil || l.raw.Control(l.once) != nil {
		return sightBroken
	}
	return l.saw
}

// await waits until the reader would find something, without reading it. It obeys the deadline of the socket and
// returns io.EOF's sight at once.
func (l *link) await() (sight, error) {
	if l.raw == nil {
		return sightBroken, io.ErrClosedPipe
	}
	l.op = opLook
	if err := l.raw.Read(l.waits); err != nil {
		return sightQuiet, err
	}
	return l.saw, nil
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
