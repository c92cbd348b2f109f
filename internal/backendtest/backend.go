package backendtest

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// T is the part of testing.TB that the package needs, so that a program can use it as well.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// endTimeout bounds the wait for goroutines and ports when a backend ends or comes back.
const endTimeout = 10 * time.Second

// errUp is the answer to reviving a backend that was not killed.
var errUp = errors.New("listen: the backend is not down")

// Backend is a listener on 127.0.0.1 with its connections. All methods may be called concurrently,
// except Kill and Revive, which belong to one goroutine.
type Backend struct {
	addr     string
	scheme   string
	serve    func(net.Listener) // accepts until the listener is closed
	connects atomic.Int64
	requests atomic.Int64
	busy     atomic.Int64 // handlers at work

	mu   sync.Mutex
	ln   net.Listener
	open map[*tracked]struct{}
	down chan struct{} // closed by Kill: ends every wait of the handlers
}

// start listens on a free port and serves until the test ends.
func start(t T, scheme string, serve func(*Backend, net.Listener)) *Backend {
	t.Helper()
	b := &Backend{addr: "127.0.0.1:0", scheme: scheme, open: map[*tracked]struct{}{}}
	b.serve = func(ln net.Listener) { serve(b, ln) }
	if err := b.listen(); err != nil {
		t.Fatalf("backendtest: %v", err)
	}
	t.Cleanup(func() {
		b.Kill()
		if !b.idle() {
			t.Errorf("backendtest: handlers of %s still run %v after its end", b.addr, endTimeout)
		}
	})
	return b
}

// Addr is the backend's "host:port"; it does not change.
func (b *Backend) Addr() string { return b.addr }

// URL is the backend as an element of a frontend: "http://127.0.0.1:port", https for a TLS one.
func (b *Backend) URL() string { return b.scheme + "://" + b.addr }

// Connects is the number of connections accepted so far.
func (b *Backend) Connects() int { return int(b.connects.Load()) }

// Requests is the number of request heads read so far.
func (b *Backend) Requests() int { return int(b.requests.Load()) }

// OpenConns is the number of connections open now.
func (b *Backend) OpenConns() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// CloseConns closes every open connection and goes on listening, as a backend does that ends idle
// keep-alive connections.
func (b *Backend) CloseConns() {
	b.mu.Lock()
	conns := make([]*tracked, 0, len(b.open))
	for c := range b.open {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // A second close is harmless.
	}
}

// Kill stops listening and closes every connection: further dials are refused. Killing a backend
// that is down does nothing.
func (b *Backend) Kill() {
	b.mu.Lock()
	if b.ln == nil {
		b.mu.Unlock()
		return
	}
	_ = b.ln.Close() // It was open: only a second close fails.
	b.ln = nil
	close(b.down)
	b.mu.Unlock()
	b.CloseConns()
}

// Revive listens again on the port of a killed backend.
func (b *Backend) Revive() error {
	for deadline := time.Now().Add(endTimeout); ; {
		err := b.listen()
		if err == nil || errors.Is(err, errUp) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // Someone else holds the port.
	}
}

func (b *Backend) listen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ln != nil {
		return errUp
	}
	ln, err := net.Listen("tcp4", b.addr)
	if err != nil {
		return err
	}
	b.ln, b.addr, b.down = ln, ln.Addr().String(), make(chan struct{})
	go b.serve(&listener{Listener: ln, backend: b})
	return nil
}

// ended is closed when the backend that is up now is killed.
func (b *Backend) ended() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down
}

// sleep waits d or until the backend is killed.
func (b *Backend) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ended():
	}
}

// idle waits until no handler runs.
func (b *Backend) idle() bool {
	for deadline := time.Now().Add(endTimeout); b.busy.Load() > 0; {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// listener registers what it accepts with its backend.
type listener struct {
	net.Listener
	backend *Backend
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b := l.backend
	t := &tracked{TCPConn: c.(*net.TCPConn), backend: b}
	b.connects.Add(1)
	b.mu.Lock()
	killed := b.ln != l.Listener
	if !killed {
		b.open[t] = struct{}{}
	}
	b.mu.Unlock()
	if killed {
		_ = c.Close() // It came in while Kill was at work.
		return nil, net.ErrClosed
	}
	return t, nil
}

// tracked is a connection that its backend can close.
type tracked struct {
	*net.TCPConn
	backend *Backend
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	t.backend.mu.Lock()
	delete(t.backend.open, t)
	t.backend.mu.Unlock()
	return t.TCPConn.Close()
}
