package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acceptedPair returns a connection as a listener of ours accepts it, and its client's end.
func acceptedPair(t *testing.T, address string) (*socket, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	a := new(acceptor)
	a.open(ln)
	t.Cleanup(func() { _ = a.Close() })
	far, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	c, err := a.next()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*socket), far.(*net.TCPConn)
}

// What package net sets on each connection, ours have from their listener.
func TestSocket_InheritsOptions(t *testing.T) {
	t.Parallel()
	s, _ := acceptedPair(t, "127.0.0.1:0")
	for _, tt := range []struct {
		name                string
		level, option, want int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEvery},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
	} {
		var got int
		var err error
		if broken := s.control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), tt.level, tt.option) }); broken != nil {
			t.Fatal(broken)
		}
		if err != nil || got != tt.want {
			t.Errorf("%s is %d, %v; want %d", tt.name, got, err, tt.want)
		}
	}
}

// A socket is a connection like those of package net: addresses, deadlines, half-close, RST, and the error after Close.
func TestSocket_IsAConnection(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		s, far := acceptedPair(t, address)
		want := far.LocalAddr().(*net.TCPAddr).AddrPort()
		want = netip.AddrPortFrom(want.Addr().Unmap(), want.Port())
		if s.peer != want || addrOf(s) != want.Addr() || s.RemoteAddr().String() != want.String() {
			t.Errorf("%s: peer %v, %v, want %v", address, s.peer, s.RemoteAddr(), want)
		}
		_ = s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		buf := make([]byte, 16)
		if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read past the deadline: %v", address, err)
		}
		_ = s.SetReadDeadline(time.Time{})
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(far); string(all) != "hello" || err != nil {
			t.Errorf("%s: the peer got %q, %v", address, all, err)
		}
		if _, err := far.Write([]byte("world")); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(buf); string(buf[:n]) != "world" || err != nil {
			t.Errorf("%s: read %q, %v after CloseWrite", address, buf[:n], err)
		}
		newLink(s).reset()
		if _, err := s.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: read after Close: %v", address, err)
		}
		if _, err := s.Write(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: write after Close: %v", address, err)
		}
		if _, err := newLink(s).Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: raw read after Close: %v", address, err)
		}
		if _, err := newLink(s).Write(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: raw write after Close: %v", address, err)
		}
		if err := s.CloseWrite(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: CloseWrite after Close: %v", address, err)
		}
	}
}

// An RST reaches a peer that waits.
func TestSocket_Reset(t *testing.T) {
	t.Parallel()
	s, far := acceptedPair(t, "127.0.0.1:0")
	newLink(s).reset()
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the peer read %v, want a reset", err)
	}
}

// The poller hears of a connection when somebody has to wait for it, and not before.
func TestSocket_WatchedWhenItWaits(t *testing.T) {
	t.Parallel()
	s, far := acceptedPair(t, "127.0.0.1:0")
	l := newLink(s)
	l.limitRead(now(), 10*time.Second)
	l.limitWrite(10*time.Second, 1)
	if _, err := far.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	for deadline := now().after(5 * time.Second); l.look() != sightData; time.Sleep(time.Millisecond) {
		if now() > deadline {
			t.Fatal("the request does not come")
		}
	}
	buf := make([]byte, 16)
	if n, err := l.Read(buf); string(buf[:n]) != "request" || err != nil {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	if _, err := l.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if s.file.Load() != nil {
		t.Error("the poller was told of a connection that nobody has waited for")
	}
	l.limitRead(now(), 50*time.Millisecond)
	if n, err := l.Read(buf); n != 0 || err != errTimedOut {
		t.Errorf("a wait ended with %d, %v", n, err)
	}
	if s.file.Load() == nil {
		t.Error("the poller was not told of a connection that was waited for")
	}
	time.AfterFunc(20*time.Millisecond, func() { _, _ = far.Write([]byte("more")) })
	l.limitRead(now(), 10*time.Second)
	if n, err := l.Read(buf); string(buf[:n]) != "more" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := io.ReadFull(far, buf[:6]); string(buf[:n]) != "answer" || err != nil {
		t.Errorf("the client got %q, %v", buf[:n], err)
	}
}

// A deadline that was set before a socket is watched ends its wait, and so does an interrupt.
func TestSocket_EarlyDeadlines(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 16)
	s, _ := acceptedPair(t, "127.0.0.1:0")
	l := newLink(s)
	l.limitRead(now(), 10*time.Second)
	l.interrupt()
	if n, err := l.Read(buf); n != 0 || err != errInterrupted {
		t.Errorf("a wait that was interrupted before ended with %d, %v", n, err)
	}
	s, far := acceptedPair(t, "127.0.0.1:0")
	_ = s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_ = far.SetReadBuffer(4 << 10)
	for i := 0; ; i++ {
		if _, err := s.Write(make([]byte, 1<<20)); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil || i == 100 {
			t.Fatalf("a peer that takes nothing: %v after %d MiB", err, i)
		}
	}
}

// Whoever waits for a connection, or is about to, learns that it was closed.
func TestSocket_CloseWhileRead(t *testing.T) {
	t.Parallel()
	for i := range 50 {
		s, _ := acceptedPair(t, "127.0.0.1:0")
		ended := make(chan error, 2)
		go func() {
			_, err := newLink(s).Read(make([]byte, 16))
			ended <- err
		}()
		go func() {
			if i%2 == 0 {
				time.Sleep(time.Millisecond)
			}
			ended <- s.Close()
		}()
		for range 2 {
			select {
			case err := <-ended:
				if err != nil && !errors.Is(err, net.ErrClosed) {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a reader was not told that its connection was closed")
			}
		}
		if err := s.Close(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("closed twice: %v", err)
		}
	}
}

// A connection that the poller refuses is closed, and somebody is told. The poller refuses files, too.
func TestSocket_Refused(t *testing.T) {
	t.Parallel()
	fd, err := unix.Open(t.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		t.Fatal(err)
	}
	told := 0
	s := &socket{fd: fd, refused: func() { told++ }}
	raw, _ := s.SyscallConn()
	if err := raw.Read(func(uintptr) bool { return true }); err != nil {
		t.Errorf("what need not wait: %v", err)
	}
	if err := raw.Read(func(uintptr) bool { return false }); err != errRefused {
		t.Errorf("a wait ended with %v", err)
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
	if err := raw.Read(func(uintptr) bool { return true }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	if err := unix.Fstat(fd, &after); err == nil && after.Ino == before.Ino && after.Dev == before.Dev {
		t.Error("the descriptor was left open")
	}
}

// A client that says nothing is accepted a second later; one that does, at once.
func TestAcceptor_Defers(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := new(acceptor)
	a.open(ln)
	defer a.Close()
	accepted := make(chan net.Addr, 2)
	go func() {
		for {
			c, err := a.next()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c.RemoteAddr()
			_ = c.Close()
		}
	}()
	for _, tt := range []struct {
		on     bool
		silent bool
	}{{true, false}, {true, true}, {false, true}} {
		if err := a.deferAccept(tt.on); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		start := now()
		if !tt.silent {
			if _, err := c.Write([]byte("GET")); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case peer := <-accepted:
			if peer.String() != c.LocalAddr().String() {
				t.Errorf("%v was accepted, want %v", peer, c.LocalAddr())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%+v: not accepted", tt)
		}
		if waited := start.until(now()) > deferTime*time.Second/2; waited != (tt.on && tt.silent) {
			t.Errorf("%+v: accepted after %v", tt, start.until(now()))
		}
		_ = c.Close()
	}
	_ = a.Close()
	if _, open := <-accepted; open {
		t.Error("accepted after Close")
	}
}
