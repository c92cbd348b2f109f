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

// acceptedPair returns a connection as a listener of ours accepts it when it waits already, and its client's end.
func acceptedPair(t *testing.T, address string) (*socket, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	var a acceptor
	a.open(ln)
	if c, err := a.next(); c != nil || err != nil {
		t.Fatalf("%v, %v before anybody connected; want nothing", c, err)
	}
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	for deadline := time.Now().Add(5 * time.Second); ; {
		c, err := a.next()
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			t.Cleanup(func() { _ = c.Close() })
			return c.(*socket), far.(*net.TCPConn)
		}
		if time.Now().After(deadline) {
			t.Fatal("a client that has connected is not accepted")
		}
	}
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
		if broken := s.raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), tt.level, tt.option) }); broken != nil {
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
