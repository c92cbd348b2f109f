package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// linkPair returns a link and the other end of its connection, on loopback, closed when the test ends.
func linkPair(t *testing.T) (*link, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return newLink(near), far.(*net.TCPConn)
}

// await polls until a claim is true.
func await(t *testing.T, what string, claim func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !claim(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestLink_ReadLimit(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	const limit = 100 * time.Millisecond
	var buf [16]byte
	for range 2 {
		start := now()
		l.limitRead(start, limit)
		n, err := l.Read(buf[:])
		if took := start.until(now()); n != 0 || err != errTimedOut || took < limit || took > 50*limit {
			t.Fatalf("got %d, %v after %v", n, err, took)
		}
	}
	// The limit is the reader's only: the connection goes on.
	l.limitRead(now(), 10*time.Second)
	if _, err := far.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(buf[:]); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// A deadline that was armed for an earlier wait must neither cut a later one short nor let it last longer.
func TestLink_ReadLimitMoves(t *testing.T) {
	t.Parallel()
	l, _ := linkPair(t)
	var buf [1]byte
	l.limitRead(now(), 200*time.Millisecond)
	time.Sleep(150 * time.Millisecond)
	start := now()
	l.limitRead(start, 200*time.Millisecond) // The socket's deadline is 50 ms away, and stays.
	if _, err := l.Read(buf[:]); err != errTimedOut || start.until(now()) < 200*time.Millisecond {
		t.Errorf("got %v after %v, want the limit after 200ms", err, start.until(now()))
	}
	l.limitRead(now(), time.Hour)
	start = now()
	l.limitRead(start, 100*time.Millisecond)
	if _, err := l.Read(buf[:]); err != errTimedOut || start.until(now()) > 10*time.Second {
		t.Errorf("got %v after %v, want the limit after 100ms", err, start.until(now()))
	}
}

func TestLink_ReadLimitLifted(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.limitRead(now(), 100*time.Millisecond)
	l.limitRead(now(), 0)
	time.AfterFunc(300*time.Millisecond, func() { _, _ = far.Write([]byte("x")) })
	var buf [1]byte
	if n, err := l.Read(buf[:]); n != 1 || err != nil {
		t.Errorf("got %d, %v, want a byte after 300ms", n, err)
	}
}

func TestLink_Interrupt(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	var buf [8]byte
	read := func(want string, wantErr error) {
		t.Helper()
		if n, err := l.Read(buf[:]); string(buf[:n]) != want || err != wantErr {
			t.Fatalf("got %q, %v, want %q, %v", buf[:n], err, want, wantErr)
		}
	}
	// During a wait, with and without a limit.
	time.AfterFunc(50*time.Millisecond, l.interrupt)
	read("", errInterrupted)
	l.resume()
	l.limitRead(now(), 10*time.Second)
	time.AfterFunc(50*time.Millisecond, l.interrupt)
	read("", errInterrupted)
	// Before a wait, and before a limit is set.
	l.limitRead(now(), 20*time.Second)
	read("", errInterrupted)
	l.limitRead(now(), 0)
	read("", errInterrupted)
	l.resume()
	if _, err := far.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	read("abc", nil)
}

func TestLink_EarlyBytesFirst(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.early = []byte("early ")
	if _, err := far.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 4)
	for {
		n, err := l.Read(buf)
		got.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != "early late" {
		t.Errorf("got %q", got.String())
	}
	if l.early != nil {
		t.Error("a connection that rests would hold on to them")
	}
}

func TestLink_WriteToAPeerThatTakesNothing(t *testing.T) {
	t.Parallel()
	l, _ := linkPair(t)
	const window = 2 * time.Second
	l.limitWrite(window, 1)
	start := now()
	n, err := l.Write(make([]byte, 64<<20))
	// What the kernels of both sides took at first is no reason to wait for a second window.
	if took := start.until(now()); !errors.Is(err, errSlowPeer) || n == 64<<20 || took < window || took > 2*window-window/8 {
		t.Errorf("got %d, %v after %v", n, err, took)
	}
}

// Small messages are judged together: none of them waits, as the kernel has room for them, yet the peer takes none.
func TestLink_SmallWritesToAPeerThatTakesNothing(t *testing.T) {
	t.Parallel()
	l, _ := linkPair(t)
	l.limitWrite(300*time.Millisecond, 1<<30)
	for start := now(); ; time.Sleep(5 * time.Millisecond) {
		// The peer's kernel takes some hundred kilobytes.
		if _, err := l.Write(make([]byte, 16<<10)); errors.Is(err, errSlowPeer) {
			return
		} else if err != nil || start.until(now()) > 10*time.Second {
			t.Fatalf("got %v after %v, want the peer given up", err, start.until(now()))
		}
	}
}

// Silence of the writer is none of the peer's doing: a peer that has taken everything is not slow, however much time passes and
// however little there was to take.
func TestLink_WriteAfterSilence(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.limitWrite(100*time.Millisecond, 1<<30)
	var buf [1]byte
	for range 4 {
		if _, err := l.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(buf[:]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond)
	}
}

// A limit that is lifted leaves no deadline behind.
func TestLink_WriteLimitLifted(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.limitWrite(80*time.Millisecond, 1)
	if _, err := l.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	l.limitWrite(0, 0)
	time.Sleep(100 * time.Millisecond)
	if _, err := l.Write([]byte("y")); err != nil {
		t.Error(err)
	}
	var buf [2]byte
	if _, err := io.ReadFull(far, buf[:]); string(buf[:]) != "xy" || err != nil {
		t.Errorf("the peer got %q, %v", buf[:], err)
	}
}

// Progress counts, not time: a peer that drains slowly but steadily is served beyond any single window.
func TestLink_WriteToASlowPeer(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.limitWrite(500*time.Millisecond, 1)
	_ = far.SetReadBuffer(16 << 10)
	_ = l.Conn.(*net.TCPConn).SetWriteBuffer(16 << 10)
	const total = 3 << 20
	got := make(chan int64, 1)
	go func() {
		var n int64
		buf := make([]byte, 128<<10)
		for n < total {
			m, err := far.Read(buf)
			n += int64(m)
			if err != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		got <- n
	}()
	start := now()
	n, err := l.Write(make([]byte, total))
	if err != nil || n != total {
		t.Errorf("got %d, %v after %v", n, err, start.until(now()))
	}
	_ = l.Close()
	if n := <-got; n != total {
		t.Errorf("the peer got %d of %d bytes", n, total)
	}
}

// A peer below the rate is given up although it takes bytes in every window.
func TestLink_WriteBelowTheRate(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.limitWrite(300*time.Millisecond, 1<<30)
	_ = far.SetReadBuffer(16 << 10)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		buf := make([]byte, 64<<10)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	n, err := l.Write(make([]byte, 256<<20))
	if !errors.Is(err, errSlowPeer) || n == 0 {
		t.Errorf("got %d, %v", n, err)
	}
	close(stop)
	_ = l.Close()
	<-stopped
}

func TestLink_Look(t *testing.T) {
	t.Parallel()
	look := func(l *link, want sight, what string) {
		t.Helper()
		await(t, what, func() bool { return l.look() == want })
	}
	l, far := linkPair(t)
	if got := l.look(); got != sightQuiet {
		t.Errorf("an idle connection looks %d", got)
	}
	if _, err := far.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	look(l, sightData, "bytes")
	var buf [2]byte
	if n, err := io.ReadFull(l, buf[:]); string(buf[:n]) != "ab" || err != nil {
		t.Fatalf("looking took bytes away: got %q, %v", buf[:n], err)
	}
	look(l, sightQuiet, "silence")
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	look(l, sightFIN, "the FIN")
	if got := l.events(); got&finished == 0 || got&hungUp != 0 {
		t.Errorf("after a FIN: events %#x", got)
	}
	if saw, err := l.await(); saw != sightFIN || err != nil {
		t.Errorf("awaiting a FIN: got %d, %v", saw, err)
	}
	_ = l.Close()
	look(l, sightBroken, "the end of a closed connection")
	if got := l.events(); got&hungUp == 0 {
		t.Errorf("after Close: events %#x", got)
	}
	if _, err := l.await(); err == nil {
		t.Error("a closed connection can be awaited")
	}

	l, far = linkPair(t)
	_ = far.SetLinger(0)
	_ = far.Close()
	look(l, sightBroken, "the RST")
	if got := l.events(); got&hungUp == 0 {
		t.Errorf("after an RST: events %#x", got)
	}
}

func TestLink_Await(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	time.AfterFunc(50*time.Millisecond, func() { _, _ = far.Write([]byte("x")) })
	if saw, err := l.await(); saw != sightData || err != nil {
		t.Errorf("got %d, %v", saw, err)
	}
	var buf [1]byte
	if n, err := l.Read(buf[:]); n != 1 || err != nil {
		t.Fatalf("awaiting took the byte: %d, %v", n, err)
	}
	time.AfterFunc(50*time.Millisecond, l.interrupt)
	if _, err := l.await(); err == nil {
		t.Error("an interrupt does not end the wait")
	}
}

// After a reset the peer must see an error, never an end: half an answer must not look whole.
func TestLink_Reset(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	if _, err := l.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	l.reset()
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer read %v, want a reset", err)
	}
}

func TestLink_CloseWrite(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	if err := l.closeWrite(); err != nil {
		t.Fatal(err)
	}
	_ = far.SetDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(far); len(rest) > 0 || err != nil {
		t.Errorf("the peer read %q, %v, want an end", rest, err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var buf [1]byte
	if n, err := l.Read(buf[:]); n != 1 || err != nil {
		t.Errorf("the other direction ended too: %d, %v", n, err)
	}
}

// Links are not always TCP: what has no descriptor can't be looked at, and must not look fit for reuse.
func TestLink_WithoutADescriptor(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	l := newLink(near)
	if got := l.look(); got != sightBroken {
		t.Errorf("looks %d", got)
	}
	if _, err := l.await(); err == nil {
		t.Error("can be awaited")
	}
	if err := l.closeWrite(); err != nil {
		t.Error(err)
	}
}
