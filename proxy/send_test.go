package proxy

import (
	"io"
	"net"
	"syscall"
	"testing"
)

// cutConn is a connection that takes some bytes and fails.
type cutConn struct {
	net.Conn
	takes int
	err   error
}

func (c *cutConn) Write([]byte) (int, error) { return c.takes, c.err }

// A request of which a byte may have reached a backend counts as sent, however its sending ended. A backend that took
// nothing more in time may be working on what it has: that is a timeout, which is never retried.
func TestExchange_SendThatFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		takes  int
		err    error
		uses   int
		kind   Kind
		sent   int
		unsent bool
	}{
		{"a part was written", 10, syscall.ECONNRESET, 2, KindBackendReset, 1, false},
		{"nothing was written to a reused connection", 0, syscall.EPIPE, 2, KindBackendReset, 0, true},
		{"nothing was written to a new connection", 0, syscall.EPIPE, 1, KindBackendReset, 0, false},
		{"no progress", 10, errSlowPeer, 2, KindResponseTimeout, 1, false},
		{"no progress at all", 0, errSlowPeer, 2, KindResponseTimeout, 0, false},
	} {
		c := clientConns.Get().(*clientConn)
		cfg := DefaultConfig()
		x := &c.x
		x.begin()
		x.cfg = &cfg
		head := []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		if n, bad := x.req.scan(head, &headRules{maxBytes: 100, maxFields: 10}); n != len(head) || bad != 0 {
			t.Fatal(n, bad)
		}
		if bad := x.req.judge(); bad != 0 {
			t.Fatal(bad)
		}
		x.up = &backendConn{rw: &cutConn{takes: tt.takes, err: tt.err}, uses: tt.uses}
		if e := x.send(); e.Kind != tt.kind || e.unsent != tt.unsent || x.sent != tt.sent {
			t.Errorf("%s: got %v, unsent %v, sent %d", tt.name, e.Kind, e.unsent, x.sent)
		}
		x.up = nil
	}
}

// A request whose client has gone before its first byte was written is not sent at all, neither here nor on another
// connection.
func TestExchange_AskWhenTheClientHasGone(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	cfg := DefaultConfig()
	x := &exchange{srv: &Server{}, cfg: &cfg}
	bc := newBackendConn(&pool{})
	bc.link, bc.rw, bc.wait, bc.uses = l, l, x, 2
	bc.buf.acquire(backendBuffer)
	x.up = bc
	x.leave()
	if e := x.ask([]byte("question")); e.Kind != KindClientGone || e.unsent || x.sent != 0 || l.question != nil {
		t.Errorf("got %v, unsent %v, sent %d, question %q", e.Kind, e.unsent, x.sent, l.question)
	}
	_ = l.Close()
	if n, err := far.Read(make([]byte, 16)); n != 0 || err != io.EOF {
		t.Errorf("the backend got %d bytes, %v", n, err)
	}
}
