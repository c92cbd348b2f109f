package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Relay is a way to a server that can be blocked: its connections stay open and nothing comes
// through. It knows nothing of Redis, so a replica may go through it as well as a client.
type Relay struct {
	// Port is where the relay listens on 127.0.0.1.
	Port int

	passing sync.RWMutex // held for writing while blocked
	blocked atomic.Bool
}

// StartRelay runs a relay to a server until the test ends.
func StartRelay(t testing.TB, s *Server) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: start relay: %v", err)
	}
	r := &Relay{Port: l.Addr().(*net.TCPAddr).Port}
	pairs := &gate{conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		_ = l.Close()
		r.Release()
		pairs.close()
	})
	join := func(client, server net.Conn) {
		end := pairs.hold(client, server)
		pairs.runs.Go(func() { r.copy(server, client, end) })
		pairs.runs.Go(func() { r.copy(client, server, end) })
	}
	pairs.runs.Go(func() { pairs.accept(l, s, join) })
	return r
}

// Block lets nothing through until Release.
func (r *Relay) Block() {
	r.passing.Lock()
	r.blocked.Store(true)
}

// Release lets through what was held back, and what follows; any goroutine may call it.
func (r *Relay) Release() {
	if r.blocked.CompareAndSwap(true, false) {
		r.passing.Unlock()
	}
}

func (r *Relay) copy(to io.Writer, from io.Reader, end func()) {
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		r.passing.RLock()
		_, err = to.Write(buf[:n])
		r.passing.RUnlock()
		if err != nil {
			return
		}
	}
}
