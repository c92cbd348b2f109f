package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/backendtest"
)

// switching is the head of a raw backend's 101, upgradeFields what asks for it.
const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

var upgradeFields = []string{"Connection: Upgrade", "Upgrade: websocket"}

// dialWebSocket opens a WebSocket through an edge.
func dialWebSocket(t *testing.T, e *edge, o *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.Host = "a.example"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+e.addr+"/chat", o)
	if err != nil {
		t.Fatalf("%v (%+v)", err, resp)
	}
	c.SetReadLimit(16 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// echo sends a message and reads it back.
func echo(t *testing.T, c *websocket.Conn, message []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
		t.Fatal(err)
	}
	_, got, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(message) {
		t.Fatalf("%d bytes came back as %d others", len(message), len(got))
	}
}

// Messages of all sizes come back whole, plain and compressed, with the subprotocol that was agreed.
func TestWebSocket_Echo(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.WebSocketEcho())
	e := newEdge(t, one("a.example", b.URL()))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	c := dialWebSocket(t, e, &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if got := c.Subprotocol(); got != "chat" {
		t.Errorf("subprotocol %q", got)
	}
	for range 200 {
		message := make([]byte, random.IntN(1<<random.IntN(18)))
		for i := range message {
			message[i] = byte(random.Uint32())
		}
		echo(t, c, message)
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("close handshake: %v", err)
	}
	e.awaitMetric("sluice_tunnels", 0)
	if n := e.metric(`sluice_tunnel_bytes_total{direction="up"}`); n < 200 {
		t.Errorf("%v bytes up counted", n)
	}
}

// permessage-deflate is agreed between client and backend; the bytes pass.
func TestWebSocket_Compression(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1,
		})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(context.WithoutCancel(r.Context()))
			if err != nil || c.Write(context.WithoutCancel(r.Context()), kind, message) != nil {
				return
			}
		}
	}))
	e := newEdge(t, one("a.example", b.URL()))
	c := dialWebSocket(t, e, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
	for i := range 20 {
		echo(t, c, bytes.Repeat([]byte{byte(i)}, 20000))
	}
	if n := e.metric(`sluice_tunnel_bytes_total{direction="up"}`); n > 100000 {
		t.Errorf("%v bytes up for 400000 that compress well: the extension was lost", n)
	}
}

// A FIN passes through, and the other direction goes on until it ends too.
func TestWebSocket_HalfClose(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		_, _ = c.WriteString(switching)
		sent, err := io.ReadAll(c) // until the client's FIN
		if err == nil {
			fmt.Fprintf(c, "got %s", sent)
		}
	})
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("GET", "/", "a.example", upgradeFields...) + "early ") // Bytes right behind the head belong to the tunnel.
	if a, err := readAnswerHead(c.r, "GET"); err != nil || a.StatusCode != 101 {
		t.Fatalf("got %v, %v", a, err)
	}
	c.send("and late")
	c.closeWrite()
	if got, err := io.ReadAll(c.r); string(got) != "got early and late" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	e.awaitMetric("sluice_tunnels", 0)
	eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
}

// A side that resets takes the other with it.
func TestWebSocket_ResetPasses(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send(switching), backendtest.WaitEnd(patience))
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("GET", "/", "a.example", upgradeFields...))
	if _, err := readAnswerHead(c.r, "GET"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.reset()
	eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
	if d := time.Since(start); d > time.Second {
		t.Errorf("it took %v", d)
	}
	for _, err := range b.Faults() {
		t.Error(err)
	}
}

// A tunnel that is silent in both directions ends; one direction keeps it.
func TestWebSocket_IdleLimit(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send(switching),
		trickle(8, 100*time.Millisecond, "x"), backendtest.WaitEnd(patience))
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.TunnelIdleTimeout = 400 * time.Millisecond })
	c := e.dial()
	c.send(request("GET", "/", "a.example", upgradeFields...))
	if _, err := readAnswerHead(c.r, "GET"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	got, err := io.ReadAll(c.r)
	if string(got) != "xxxxxxxx" || isTimeout(err) {
		t.Errorf("got %q, %v", got, err)
	}
	if d := time.Since(start); d < 1100*time.Millisecond || d > 4*time.Second {
		t.Errorf("the tunnel lived %v, want 800 ms of traffic and 400 ms of silence", d)
	}
	e.awaitMetric("sluice_tunnels", 0)
}

// A route change, even a removal, does not touch an open tunnel.
func TestWebSocket_RouteChange(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.WebSocketEcho())
	e := newEdge(t, one("a.example", b.URL()))
	c := dialWebSocket(t, e, nil)
	echo(t, c, []byte("before"))
	e.writeRoutes(one("other.example", b.URL()))
	eventually(t, "the route's end", func() bool { return e.get("a.example").cause() == "unknown_host" })
	e.server.SweepPools(time.Hour)
	echo(t, c, []byte("after"))
}

// Only the upgrades of the list are asked for, each alone: the first of them that a client offers. All others are plain requests,
// and h2c is never passed.
func TestWebSocket_OnlyListedUpgrades(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.Upgrades = []string{"websocket", "custom"} })
	for upgrade, want := range map[string]string{
		"websocket": "websocket", "WebSocket": "WebSocket", "custom": "custom", "h2c": "", "TLS/1.0": "", ", ,": "",
		"websocket, h2c": "websocket", "h2c,TLS/1.0 ,custom, websocket": "custom", "h2c\r\nUpgrade: websocket": "websocket",
	} {
		a := e.get("a.example", "Connection: Upgrade, HTTP2-Settings", "Upgrade: "+upgrade, "HTTP2-Settings: AAMAAABkAAQ")
		q := a.echoed(t)
		if got := q.Value("Upgrade"); got != want || q.Value("HTTP2-Settings") != "" {
			t.Errorf("%q reached the backend as %q, want %q; HTTP2-Settings %q", upgrade, got, want, q.Value("HTTP2-Settings"))
		}
		if a.StatusCode != 200 { // A backend may decline.
			t.Errorf("%s: %d", upgrade, a.StatusCode)
		}
	}
}

// A backend that declines answers like any other, and both connections go on.
func TestWebSocket_Declined(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Loop(backendtest.Whole(),
		backendtest.Send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno")))
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	for range 3 {
		if a := c.do("GET", "/", "a.example", upgradeFields...); a.StatusCode != 426 || a.body != "no" {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
	}
	if n := b.Connects(); n != 1 {
		t.Errorf("%d backend connections, want one", n)
	}
}

// Handshakes are retried like other requests while nothing was sent.
func TestWebSocket_DialRetry(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.WebSocketEcho())
	for range 5 {
		e := newEdge(t, one("a.example", backendtest.Refused(t), b.URL()))
		echo(t, dialWebSocket(t, e, nil), []byte("hello"))
	}
}

// A 101 that agrees to something else than was asked for is no switch.
func TestWebSocket_WrongSwitch(t *testing.T) {
	t.Parallel()
	for _, head := range []string{
		strings.Replace(switching, "Upgrade: websocket", "Upgrade: other", 1),
		strings.Replace(switching, "Connection: Upgrade\r\n", "", 1),
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		b := backendtest.Canned(t, head)
		e := newEdge(t, one("a.example", b.URL()))
		wantStatus(t, e.get("a.example", upgradeFields...), 502, "bad_answer")
	}
}

// Shutdown gives tunnels their time, then ends them.
func TestWebSocket_Shutdown(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.WebSocketEcho())
	e := newEdge(t, one("a.example", b.URL()))
	c := dialWebSocket(t, e, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- e.shutdown(ctx) }()
	eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
	echo(t, c, []byte("still there"))
	if err := <-done; err == nil {
		t.Error("Shutdown says that everything ended, although a tunnel was cut")
	}
	if d := time.Since(start); d < 600*time.Millisecond || d > 4*time.Second {
		t.Errorf("Shutdown took %v, want 700 ms", d)
	}
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the tunnel outlived the server")
	}
	eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
}
