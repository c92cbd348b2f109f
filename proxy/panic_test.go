package proxy

import (
	"testing"
	"time"
)

// workOn has a connection answer a request, as it came from its client, and returns its stream.
func workOn(t *testing.T, c *h2Conn, change func(hs *h2Stream)) (hs *h2Stream) {
	t.Helper()
	hs = acquireH2Stream(c, 1)
	hs.text = []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	hs.known, hs.open, hs.remoteDone, hs.sendWindow = true, true, true, c.initialWindow
	change(hs)
	c.mu.Lock()
	c.greeted, c.writing = true, true // What is to be written stays.
	c.byID[hs.id], c.lastID, c.open, c.running = hs, hs.id, 1, 1
	c.add(&hs.stream)
	c.mu.Unlock()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("the panic ends the process: %v", r)
		}
	}()
	hs.work()
	return hs
}

// A panic costs its stream: outside the fence that is reset, inside it is answered. It is never used again, since
// whatever the panic has left undone may still know it.
func TestH2_PanicCostsItsStream(t *testing.T) {
	t.Parallel()
	for _, fenced := range []bool{false, true} {
		s := newFrameServer(t)
		c, _ := newFrameConn(s, nil, 1)
		hs := workOn(t, c, func(hs *h2Stream) {
			if fenced {
				s.routes = nil
			} else {
				hs.x.cfg = nil
			}
		})
		if n := s.metrics.panics.Get(); n != 1 {
			t.Errorf("fenced %v: %d panics", fenced, n)
		}
		if len(c.byID)+c.open+c.running+len(c.streams) != 0 || hs.conn != c {
			t.Errorf("fenced %v: %d known, %d open, %d running, %d streams, used again %v",
				fenced, len(c.byID), c.open, c.running, len(c.streams), hs.conn != c)
		}
		if len(c.out) < frameHeaderSize {
			t.Fatalf("fenced %v: the client hears nothing", fenced)
		}
		if f := parseFrame(c.out); f.stream != 1 || (f.kind == frameHeaders) != fenced || (f.kind == frameRST) == fenced {
			t.Errorf("fenced %v: frame of kind %d for stream %d", fenced, f.kind, f.stream)
		}
	}
}

// brokenWire fails in a way that nobody expects.
type brokenWire struct{ memoryWire }

func (*brokenWire) Write([]byte) (int, error) { panic("broken") }

// A panic of the writer costs its connection, and nobody waits for its lock or for its end.
func TestH2_PanicOfWriter(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *h2Conn){
		"between writes": func(c *h2Conn) { c.queue = []*h2Stream{nil} },
		"in a write":     func(c *h2Conn) { c.wire = &brokenWire{} },
	} {
		s := newFrameServer(t)
		c, _ := newFrameConn(s, nil, 1)
		change(c)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.greet()
			for s.metrics.panics.Get() == 0 {
				time.Sleep(time.Millisecond)
			}
			c.tick(now())
			c.giveUp()
		}()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the connection does not end", name)
		}
		c.mu.Lock()
		if n := s.metrics.panics.Get(); n != 1 || c.writing || !c.dead {
			t.Errorf("%s: %d panics, writing %v, dead %v", name, n, c.writing, c.dead)
		}
		c.mu.Unlock()
	}
}

// What a panic has seen is not used for another client's request.
func TestClientConn_NotUsedAgainAfterAPanic(t *testing.T) {
	t.Parallel()
	c := clientConns.Get().(*clientConn)
	c.srv = newFrameServer(t)
	c.x.err = failed(KindInternal)
	c.release()
	if c.srv == nil { // To be given back is to be emptied.
		t.Error("it is given back")
	}
}
