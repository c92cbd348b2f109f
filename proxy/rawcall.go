//go:build !race

package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of a descriptor. None of them blocks, as its connection is in non-blocking mode. p is not empty and lies on
// the heap. They are those of sockets: read(2) and write(2) take the longer way through what files have in common.
//
// Unsafe: the kernel uses p during the call only.

func rawRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return raw(unix.SYS_RECVFROM, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), 0)
}

func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return raw(unix.SYS_SENDTO, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), unix.MSG_NOSIGNAL)
}

func rawPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return raw(unix.SYS_RECVFROM, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

func raw(call, fd uintptr, p unsafe.Pointer, size int, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := unix.RawSyscall6(call, fd, uintptr(p), uintptr(size), flags, 0, 0)
		switch err {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}
