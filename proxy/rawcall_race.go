//go:build race

package proxy

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// The race detector sees what goes through these calls, and takes a read for later than the write whose bytes it gets.

func rawRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return repeat(func() (int, error) { return unix.Read(int(fd), p) })
}

func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return repeat(func() (int, error) { return unix.Write(int(fd), p) })
}

func rawPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return repeat(func() (int, error) {
		n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return n, err
	})
}

func repeat(call func() (int, error)) (int, syscall.Errno) {
	for {
		n, err := call()
		var errno syscall.Errno
		if err == nil {
			return n, 0
		}
		if errors.As(err, &errno); errno != unix.EINTR {
			return 0, errno
		}
	}
}
