package proxy

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// acceptor takes connections from a listener, with one system call for each: they inherit its options and come with
// their address. Only the goroutine of Accept uses it; Close and deferAccept may be called by any.
type acceptor struct {
	net.Listener                 // of another kind than package net's TCPListener, or closed: file has its socket
	file         *os.File        // nil if the Listener is to be asked
	raw          syscall.RawConn // of file
	refused      func()          // told of each connection that the poller refuses; set before next

	take func(fd uintptr) bool // accepts one connection, false if none waits
	fd   int                   // what take found
	err  syscall.Errno
	peer unix.RawSockaddrInet6 // large enough for either family
	size uint32                // of peer
}

// Probes of connections whose peer is silent, as package net sends them by default: after keepAliveIdle seconds, every
// keepAliveEvery, until keepAliveCount of them were not answered.
const (
	keepAliveIdle  = 15
	keepAliveEvery = 15
	keepAliveCount = 9
)

// deferTime is how many seconds the kernel keeps a connection on which nothing was sent. It is then accepted with the
// next sign of its client, which the kernel asks for (TCP_DEFER_ACCEPT in tcp(7)).
const deferTime = 1

// open takes ln over. It closes ln where it goes on with a copy of its own: under the runtime's poller twice, the
// socket would be reported twice.
func (a *acceptor) open(ln net.Listener) {
	a.Listener = ln
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	file, err := tcp.File()
	if err != nil {
		return
	}
	raw, err := file.SyscallConn()
	if err = errors.Join(err, file.SetDeadline(noDeadline)); err == nil { // It fails if the poller refuses the file.
		err = inherit(raw)
	}
	if err != nil {
		_ = file.Close()
		return // The listener's own Accept sets the options.
	}
	a.file, a.raw, a.take = file, raw, a.accept
	_ = ln.Close()
}

// inherit sets the options that connections have from their listener (tcp(7), socket(7)).
func inherit(raw syscall.RawConn) error {
	return setOptions(raw, []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEvery},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
	})
}

// option is a socket option and its value.
type option struct{ level, name, value int }

func setOptions(raw syscall.RawConn, options []option) (err error) {
	broken := raw.Control(func(fd uintptr) {
		for _, o := range options {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), o.level, o.name, o.value))
		}
	})
	return errors.Join(broken, err)
}

// deferAccept says whether a connection waits in the kernel until its client has sent something. Sockets that were
// inherited may have it either way.
func (a *acceptor) deferAccept(on bool) error {
	if a.file == nil {
		return nil
	}
	seconds := 0
	if on {
		seconds = deferTime
	}
	return setOptions(a.raw, []option{{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds}})
}

// accept takes a connection that waits, and reports false if none does.
//
// Unsafe: the kernel writes to peer and size during the call only.
func (a *acceptor) accept(fd uintptr) bool {
	for {
		a.size = unix.SizeofSockaddrInet6
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&a.peer)),
			uintptr(unsafe.Pointer(&a.size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			a.fd, a.err = int(n), errno
			return errno != unix.EAGAIN
		}
	}
}

// next waits for a connection. It returns net.ErrClosed after Close.
func (a *acceptor) next() (net.Conn, error) {
	if a.file == nil {
		return a.Listener.Accept()
	}
	switch err := a.raw.Read(a.take); {
	case err != nil:
		return nil, waitFailure(err)
	case a.err != 0:
		return nil, os.NewSyscallError("accept4", a.err)
	}
	return &socket{fd: a.fd, peer: addrPort(&a.peer), local: a.Addr(), refused: a.refused}, nil
}

// Close closes the listener.
func (a *acceptor) Close() error {
	if a.file == nil {
		return a.Listener.Close()
	}
	return closedError(a.file.Close())
}

// addrPort converts the address of an accepted connection.
//
// Unsafe: the kernel has written an address of the family that it names, which is no longer than one of IPv6.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	var order [2]byte // A port is in network order.
	binary.NativeEndian.PutUint16(order[:], sa.Port)
	port := binary.BigEndian.Uint16(order[:])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}
