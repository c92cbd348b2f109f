package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is an accepted TCP connection. A net.TCPConn would ask the kernel for its own address and set options that the
// connection has inherited from its listener, and put it under the runtime's poller at once: nine system calls for each
// connection. A socket comes under the poller when somebody has to wait for it. Many never do: their request has come
// when they are accepted, and they end with its answer.
type socket struct {
	peer    netip.AddrPort
	local   net.Addr // the listener's
	refused func()   // told if the poller refuses the socket; may be nil

	// Before the socket is watched; guarded by mu, which is held over calls that do not wait.
	mu      sync.Mutex
	fd      int       // -1 when it is closed
	readBy  time.Time // deadlines that are yet to be set
	writeBy time.Time

	file atomic.Pointer[os.File] // since the socket is watched
	raw  syscall.RawConn         // of file, and set before it
}

// noDeadline lifts a deadline.
var noDeadline time.Time

// LocalAddr implements net.Conn with the address of the listener, which may be that of every interface.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.peer) }

// errRefused is what waiting for a socket ends with that the poller refuses. Such a socket is closed.
var errRefused = errors.New("the connection can't be waited for: fs.epoll.max_user_watches is used up, or memory is")

// watch puts the socket under the poller.
func (s *socket) watch() (*os.File, error) {
	if f := s.file.Load(); f != nil {
		return f, nil
	}
	f, err := s.watchOnce()
	if err == errRefused && s.refused != nil {
		s.refused()
	}
	return f, err
}

func (s *socket) watchOnce() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.file.Load(); f != nil {
		return f, nil
	}
	if s.fd < 0 {
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(s.fd), "connection")
	s.fd = -1
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(s.readBy) // A file tells only so that the poller has refused it.
	}
	if err != nil {
		_ = f.Close()
		return nil, errRefused
	}
	if !s.writeBy.IsZero() {
		_ = f.SetWriteDeadline(s.writeBy)
	}
	s.raw = raw
	s.file.Store(f)
	return f, nil
}

// Read implements net.Conn. It returns net.ErrClosed after Close, as connections do.
func (s *socket) Read(p []byte) (int, error) {
	f, err := s.watch()
	if err != nil {
		return 0, err
	}
	n, err := f.Read(p)
	return n, closedError(err)
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	f, err := s.watch()
	if err != nil {
		return 0, err
	}
	n, err := f.Write(p)
	return n, closedError(err)
}

// Close implements net.Conn.
func (s *socket) Close() error {
	s.mu.Lock()
	fd, f := s.fd, s.file.Load()
	s.fd = -1
	s.mu.Unlock()
	switch {
	case f != nil:
		return closedError(f.Close())
	case fd < 0:
		return net.ErrClosed
	}
	return rawClose(fd)
}

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn. Reads that need not wait heed no deadline before the socket is watched.
func (s *socket) SetReadDeadline(t time.Time) error {
	f := s.file.Load()
	if f == nil {
		if f = s.note(&s.readBy, t); f == nil {
			return nil
		}
	}
	return f.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn, as SetReadDeadline does.
func (s *socket) SetWriteDeadline(t time.Time) error {
	f := s.file.Load()
	if f == nil {
		if f = s.note(&s.writeBy, t); f == nil {
			return nil
		}
	}
	return f.SetWriteDeadline(t)
}

// note keeps a deadline until the socket is watched. If it is by now, the file is returned instead.
func (s *socket) note(deadline *time.Time, t time.Time) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.file.Load(); f != nil {
		return f
	}
	*deadline = t
	return nil
}

// closedError gives the error of a closed file the name that a closed connection has.
func closedError(err error) error {
	if err != nil && errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// CloseWrite sends a FIN.
func (s *socket) CloseWrite() (err error) {
	if s.control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }) != nil {
		return net.ErrClosed
	}
	return err
}

// SetLinger sets what Close does with bytes that were not sent: with sec of 0 it drops them and sends an RST.
func (s *socket) SetLinger(sec int) (err error) {
	linger := unix.Linger{Onoff: 1, Linger: int32(sec)}
	if s.control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &linger)
	}) != nil {
		return net.ErrClosed
	}
	return err
}

// SyscallConn implements syscall.Conn. Functions given to its methods must not wait: of a socket that is not watched,
// only one runs at a time.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return (*rawSocket)(s), nil }

func (s *socket) control(f func(fd uintptr)) error { return (*rawSocket)(s).Control(f) }

// rawSocket is a socket as a syscall.RawConn.
type rawSocket socket

// Control implements syscall.RawConn.
func (r *rawSocket) Control(f func(fd uintptr)) error {
	if r.file.Load() == nil {
		r.mu.Lock()
		if r.fd >= 0 {
			f(uintptr(r.fd))
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		if r.file.Load() == nil {
			return net.ErrClosed
		}
	}
	return r.raw.Control(f)
}

// Read implements syscall.RawConn.
func (r *rawSocket) Read(f func(fd uintptr) bool) error {
	if r.file.Load() == nil {
		if done, err := r.wait(f); done || err != nil {
			return err
		}
	}
	return r.raw.Read(f)
}

// Write implements syscall.RawConn.
func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	if r.file.Load() == nil {
		if done, err := r.wait(f); done || err != nil {
			return err
		}
	}
	return r.raw.Write(f)
}

// wait calls f, and puts the socket under the poller if f reports that it has to wait.
func (r *rawSocket) wait(f func(fd uintptr) bool) (done bool, err error) {
	r.mu.Lock()
	if r.fd >= 0 {
		done = f(uintptr(r.fd))
	}
	r.mu.Unlock()
	if !done {
		_, err = (*socket)(r).watch()
	}
	return done, err
}

// rawClose closes a descriptor that nobody else uses. It does not wait, as the socket has no time to linger.
func rawClose(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
