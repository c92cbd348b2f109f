package proxy_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/proxy"
)

// BeginDrain turns load balancers away and nobody else.
func TestDrain_PingSays503(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.wantAlive("a.example")
	e.server.BeginDrain()
	wantStatus(t, e.get("__ping__"), 503, "draining")
	c.wantAlive("a.example")
	if a := e.get("a.example"); a.StatusCode != 200 || a.Close {
		t.Errorf("a new connection got %d, close %v; want 200 and the connection to go on", a.StatusCode, a.Close)
	}
	if n := e.metric("sluice_draining"); n != 1 {
		t.Errorf("sluice_draining is %v", n)
	}
}

// From BeginDrain on no connection is left to the kernel, which would reset it at the end of accepting: a client that is
// silent at first is served through Shutdown, like any that has connected before.
func TestDrain_TakesSilentClients(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	wantStatus(t, e.get("a.example"), 200, "") // it is served by now
	eventually(t, "the end of that connection", func() bool { return e.metric("sluice_connections") == 0 })
	e.server.BeginDrain()
	start := time.Now()
	c := e.dial()
	eventually(t, "the silent client's connection", func() bool { return e.metric("sluice_connections") == 1 })
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("it was taken after %v", took)
	}
	done := make(chan error, 1)
	go func() { done <- e.shutdown(context.Background()) }()
	eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
	c.wantAlive("a.example")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A listener that is served only when the drain has begun is no exception.
func TestDrain_TakesSilentClientsOfALateListener(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	e.server.BeginDrain()
	late, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = late.Addr().String()
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(late, proxy.Bind{}) }()
	wantStatus(t, e.get("a.example"), 200, "") // it is served by now
	eventually(t, "the end of that connection", func() bool { return e.metric("sluice_connections") == 0 })
	start := time.Now()
	e.dial()
	eventually(t, "the silent client's connection", func() bool { return e.metric("sluice_connections") == 1 })
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("it was taken after %v", took)
	}
	e.cut()
	if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("serve: %v", err)
	}
}

// Shutdown lets an answer that is on its way come to its end, says that the connection ends, and returns.
func TestDrain_AnswersAreFinished(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		beforeHead, inBody time.Duration
		close              bool // the head comes after Shutdown began
	}{
		{"before the head", 400 * time.Millisecond, 0, true},
		{"in the body", 0, 400 * time.Millisecond, false},
	} {
		b := backendtest.HTTP(t, backendtest.Slow(tt.beforeHead, tt.inBody, "whole"))
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		eventually(t, "the request at the backend", func() bool { return b.Requests() == 1 })
		if tt.inBody > 0 {
			if _, err := c.r.Peek(1); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- e.shutdown(context.Background()) }()
		eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
		a := c.answer("GET")
		if a.StatusCode != 200 || a.body != "whole" || a.Close != tt.close {
			t.Errorf("%s: %d %q, close %v; want the whole answer, close %v", tt.name, a.StatusCode, a.body, a.Close, tt.close)
		}
		if !tt.close { // The head had promised that the connection goes on: it ends with the next answer.
			if a := c.do("GET", "/", "__ping__"); !a.Close {
				t.Errorf("%s: the next answer does not end the connection", tt.name)
			}
		}
		c.wantEnd()
		if err := <-done; err != nil {
			t.Errorf("%s: shutdown: %v", tt.name, err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: shutdown took %v", tt.name, d)
		}
		eventually(t, "the end of idle backend connections", func() bool { return b.OpenConns() == 0 })
	}
}

// refuses reports whether nobody listens at an address.
func refuses(addr string) bool {
	c, err := net.DialTimeout("tcp4", addr, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

// An idle connection is left open during a drain, since a request may be on its way; it ends with its next answer.
func TestDrain_IdleConnectionsAreAnswered(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	idle := e.dial()
	idle.wantAlive("a.example")
	done := make(chan error, 1)
	go func() { done <- e.shutdown(context.Background()) }()
	eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
	idle.wantSilence(300 * time.Millisecond)
	a := idle.do("GET", "/", "a.example")
	if a.StatusCode != 200 || !a.Close {
		t.Errorf("got %d, close %v; want 200 and the connection's end", a.StatusCode, a.Close)
	}
	idle.wantEnd()
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// A loop that accepts may see the end before Shutdown has come to its listener, and closes it. That is no failure: it
// must not cut the connections that are left.
func TestDrain_AcceptingEndsFirst(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), parkSoon)
	idle := e.dial()
	idle.wantAlive("a.example")
	e.awaitParked(1)
	e.server.StopAccepting()
	e.dial().do("GET", "/", "a.example") // With this one the loop comes round.
	eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
	done := make(chan error, 1)
	go func() { done <- e.shutdown(context.Background()) }()
	idle.wantSilence(300 * time.Millisecond)
	if a := idle.do("GET", "/", "a.example"); a.StatusCode != 200 || !a.Close {
		t.Errorf("got %d, close %v; want 200 and the connection's end", a.StatusCode, a.Close)
	}
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// When the context of Shutdown ends, what is left is cut: idle connections, and answers that look cut to their clients.
func TestDrain_CutAtTheEnd(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(),
		backendtest.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), backendtest.WaitEnd(patience))
	e := newEdge(t, one("a.example", b.URL()))
	idle, busy := e.dial(), e.dial()
	idle.do("GET", "/", "__ping__")
	busy.send(request("GET", "/", "a.example"))
	if _, err := busy.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := e.shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v, want the context's error", err)
	}
	if d := time.Since(start); d < 250*time.Millisecond || d > 3*time.Second {
		t.Errorf("shutdown took %v, want 300 ms", d)
	}
	idle.wantEnd()
	if a, err := readAnswer(busy.r, "GET"); err == nil || isTimeout(err) {
		t.Errorf("the cut answer: %v, %v", a, err)
	}
	if line := e.awaitLog(2)[1]; line == "" {
		t.Error("the cut request is not logged")
	}
	eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
}

// A server that was shut down serves no further listener.
func TestDrain_ServeAfterShutdown(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{})
	e.cut()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.server.Serve(ln, proxy.Bind{}); !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("serve: %v, want ErrServerClosed", err)
	}
	if !refuses(ln.Addr().String()) {
		t.Error("the listener is still open")
	}
}

// Drain under load loses no request: every one that was sent on an open connection is answered.
func TestDrain_NoRequestIsLost(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	const clients = 20
	lost := make(chan error, clients)
	var conns []*client
	for range clients {
		conns = append(conns, e.dial())
	}
	for _, c := range conns {
		go func() {
			for {
				if _, err := c.Write([]byte(request("GET", "/", "a.example"))); err != nil {
					lost <- err
					return
				}
				a, err := readAnswer(c.r, "GET")
				if err != nil || a.Close {
					lost <- err
					return
				}
			}
		}()
	}
	eventually(t, "traffic", func() bool { return b.Requests() > 200 })
	if err := e.shutdown(context.Background()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for range clients {
		if err := <-lost; err != nil {
			t.Errorf("a request was lost: %v", err)
		}
	}
}
