package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is an accepted TCP connection, made from its descriptor. A net.TCPConn would ask the kernel for its own
// address and set options that the connection has inherited from its listener: six system calls for each connection.
type socket struct {
	*os.File
	raw   syscall.RawConn
	peer  netip.AddrPort
	local net.Addr // the listener's
}

// LocalAddr implements net.Conn with the address of the listener, which may be that of every interface.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.peer) }

// SyscallConn implements syscall.Conn.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// Read implements net.Conn. It returns net.ErrClosed after Close, as connections do.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	return n, closedError(err)
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	return n, closedError(err)
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
	if s.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }) != nil {
		return net.ErrClosed
	}
	return err
}

// SetLinger sets what Close does with bytes that were not sent: with sec of 0 it drops them and sends an RST.
func (s *socket) SetLinger(sec int) (err error) {
	linger := unix.Linger{Onoff: 1, Linger: int32(sec)}
	if s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &linger)
	}) != nil {
		return net.ErrClosed
	}
	return err
}

// acceptor takes connections that wait at a listener. Only the goroutine of Accept uses it.
type acceptor struct {
	raw   syscall.RawConn // nil if the listener is none of package net's
	local net.Addr
	try   func(fd uintptr)

	fd   int // what try found
	peer unix.Sockaddr
	err  error
}

// Probes of connections whose peer is silent, as package net sends them by default: after keepAliveIdle seconds, every
// keepAliveEvery, until keepAliveCount of them were not answered.
const (
	keepAliveIdle  = 15
	keepAliveEvery = 15
	keepAliveCount = 9
)

// open prepares ln, so that what is accepted from it inherits its options (tcp(7), socket(7)).
func (a *acceptor) open(ln net.Listener) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	inherited := raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEvery},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		} {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), o.level, o.name, o.value))
		}
	})
	if inherited != nil || err != nil {
		return // The listener's own Accept sets them.
	}
	a.raw, a.local = raw, ln.Addr()
	a.try = func(fd uintptr) {
		a.fd, a.peer, a.err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	}
}

// next returns a connection that waits to be accepted. It returns nil and no error if none does, or if the listener has
// failed in a way that its own Accept tells better.
func (a *acceptor) next() (net.Conn, error) {
	if a.raw == nil || a.raw.Control(a.try) != nil {
		return nil, nil //nolint:nilnil // Nothing is a documented meaning.
	}
	switch {
	case a.err == nil:
	case temporary(a.err):
		return nil, os.NewSyscallError("accept4", a.err)
	default:
		return nil, nil //nolint:nilnil // As above.
	}
	s := &socket{File: os.NewFile(uintptr(a.fd), "connection"), peer: addrPort(a.peer), local: a.local}
	raw, err := s.File.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, s.File.Close())
	}
	s.raw = raw
	return s, nil
}

// addrPort converts the address of an accepted connection.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
