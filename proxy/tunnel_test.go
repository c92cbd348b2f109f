package proxy

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A reset is told once, to whoever uses the socket next. If that was the writer of one direction, the reader of the other
// sees an end; the far side must not take it for a FIN all the same.
func TestTunnel_AResetTheReaderIsNotToldOf(t *testing.T) {
	t.Parallel()
	client, clientFar := linkPair(t)
	backend, backendFar := linkPair(t)
	_ = clientFar.SetLinger(0)
	_ = clientFar.Close()
	await(t, "the reset", func() bool { return client.events()&hungUp != 0 })
	_ = client.raw.Control(func(fd uintptr) { _, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
	from := &source{read: client.Read}
	from.buf.acquire(smallBuffer)
	(&tunnel{}).copy(
		tunnelEnd{link: backend, rw: backend, src: &source{read: backend.Read}},
		tunnelEnd{link: client, rw: client, src: from},
	)
	if _, err := backendFar.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the far side saw %v, want a reset", err)
	}
}
