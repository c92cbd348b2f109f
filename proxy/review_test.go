package proxy

import (
	"net"
	"testing"
	"time"
)

// A peer that drains steadily makes progress although its socket is not called writable for longer than a window.
func TestLink_WriteThroughALargeBuffer(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	l.writeWindow, l.writeRate = 2*time.Second, 100
	_ = l.Conn.(*net.TCPConn).SetWriteBuffer(1 << 20) // The kernel doubles it: it wakes the writer for 700 kB.
	_ = far.SetReadBuffer(64 << 10)
	const total = 3 << 20
	got := make(chan int, 1)
	go func() {
		n, buf := 0, make([]byte, 32<<10)
		for n < total {
			m, err := far.Read(buf)
			if n += m; err != nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		got <- n
	}()
	start := now()
	if n, err := l.Write(make([]byte, total)); err != nil || n != total {
		t.Errorf("got %d, %v after %v", n, err, start.until(now()))
	}
	_ = far.Close()
	<-got
}
