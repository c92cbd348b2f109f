package proxy

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// farewellWire is a wire that nothing can be written on after its end, as under TLS.
type farewellWire struct {
	memoryWire
	ended, late atomic.Bool
}

func (w *farewellWire) Write(p []byte) (int, error) {
	if w.ended.Load() {
		w.late.Store(true)
		return 0, errors.New("written behind the end")
	}
	return w.memoryWire.Write(p)
}

func (w *farewellWire) CloseWrite() error {
	w.ended.Store(true)
	return nil
}

// Nothing is written behind the farewell, also not for streams whose client still sends: it would close the connection
// before the client has read that.
func TestH2Conn_FarewellIsLast(t *testing.T) {
	t.Parallel()
	c, _ := newFrameConn(newFrameServer(t), nil, 1)
	w := &farewellWire{}
	c.wire = w
	c.mu.Lock()
	c.acked, c.lastID = true, 1
	c.lingering = append(c.lingering, lingerer{1, now()})
	c.nameLast()
	c.mu.Unlock()
	c.farewell(codeNone)
	c.tick(now().after(lingerTime + time.Millisecond))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.ended.Load() || w.late.Load() || c.writing || c.dead {
		t.Errorf("ended %v, written behind that %v or about to be %v; closed at once %v",
			w.ended.Load(), w.late.Load(), c.writing, c.dead)
	}
}
