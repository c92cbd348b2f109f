package backendtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Refused returns an address of 127.0.0.1 that refuses connections until the test ends: the port is
// bound, so that nobody else can take it, and nobody listens on it.
func Refused(t T) string {
	t.Helper()
	fd, addr, err := bound()
	if err != nil {
		t.Fatalf("backendtest: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return addr
}

// BlackHole returns an address of 127.0.0.1 where dials neither succeed nor fail: the queue of the
// listener is full and the kernel drops what comes.
func BlackHole(t T) string {
	t.Helper()
	fd, addr, err := bound()
	if err != nil {
		t.Fatalf("backendtest: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatalf("backendtest: listen: %v", err)
	}
	// A backlog of 0 holds one or two connections; a dial that hangs shows that it is full.
	for range 16 {
		c, err := net.DialTimeout("tcp4", addr, 300*time.Millisecond)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return addr
		}
		if err != nil {
			t.Fatalf("backendtest: fill the queue of %s: %v", addr, err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatalf("backendtest: the queue of %s does not fill up", addr)
	return ""
}

// Silent accepts connections, reads whatever comes, and never answers.
func Silent(t T) *Backend {
	t.Helper()
	return Raw(t, func(c *Conn) {
		_, _ = io.Copy(io.Discard, c) // It ends with the connection.
	})
}

// bound is a TCP socket bound to a free port, not listening.
func bound() (fd int, addr string, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, "", fmt.Errorf("open socket: %w", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(fd)
		return 0, "", fmt.Errorf("bind socket: %w", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return 0, "", fmt.Errorf("name socket: %w", err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), nil
}
