package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/internal/backendtest"
)

// soakTime is how long TestWebSocket_Soak sends.
var soakTime = flag.Duration("soak", 1500*time.Millisecond, "how long each pair of WebSocket libraries talks")

// soakConnections is how many connections of each pair are open at once.
const soakConnections = 4

// sums are digests of all that went up, to the server, and down.
type sums struct{ up, down hash.Hash }

func newSums() *sums { return &sums{sha256.New(), sha256.New()} }

func (s *sums) text() string {
	return fmt.Sprintf(`{"up":"%s","down":"%s"}`, hex.EncodeToString(s.up.Sum(nil)), hex.EncodeToString(s.down.Sum(nil)))
}

// webSocketServer is a backend that sends each binary message back, and takes commands as text: "sums", "close", "reset".
type webSocketServer struct {
	url string
	how chan string // each connection ended
}

// webSocketServers are the libraries on the backend's side, webSocketClients those on the client's. A client's modes are
// those of client.js; it returns how its connections ended.
var (
	webSocketServers = map[string]func(*testing.T) webSocketServer{"coder": coderServer, "ws": nodeServer}
	webSocketClients = map[string]func(t *testing.T, addr, mode string) []string{"coder": coderClient, "ws": nodeClient}
)

// Each library on either side, with compression: every byte arrives, in both directions, and the close frame passes.
func TestWebSocket_Soak(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, e *edge, s webSocketServer, client func(*testing.T, string, string) []string) {
		ends := client(t, e.addr, "soak")
		for range soakConnections {
			ends = append(ends, s.end(t))
		}
		for _, how := range ends {
			if how != "4001 client done" {
				t.Errorf("a connection ended with %q, want the client's close frame", how)
			}
		}
		e.awaitMetric("sluice_tunnels", 0)
		e.awaitMetric(`sluice_requests_total{status="1xx"}`, soakConnections)
	})
}

// A close frame, or an RST, that one side sends reaches the other as what it is.
func TestWebSocket_EndsPass(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, e *edge, s webSocketServer, client func(*testing.T, string, string) []string) {
		for _, tt := range []struct{ mode, client, server string }{
			{"close", "4001 client done", "4001 client done"},
			{"closed", "4002 server done", "4002 server done"},
			{"reset", "", "ECONNRESET"}, // What the one who resets sees is its own affair.
			{"torn", "ECONNRESET", ""},
		} {
			got, want := client(t, e.addr, tt.mode)[0], tt.client
			if want != "" && got != want {
				t.Errorf("%s: the client saw %q, want %q", tt.mode, got, want)
			}
			if got, want := s.end(t), tt.server; want != "" && got != want {
				t.Errorf("%s: the server saw %q, want %q", tt.mode, got, want)
			}
			e.awaitMetric("sluice_tunnels", 0)
		}
	})
}

// eachPair runs a test for every client with every server, each pair with an edge between them.
func eachPair(t *testing.T, test func(*testing.T, *edge, webSocketServer, func(*testing.T, string, string) []string)) {
	for serverName, server := range webSocketServers {
		for clientName, client := range webSocketClients {
			t.Run("client="+clientName+"/server="+serverName, func(t *testing.T) {
				t.Parallel()
				s := server(t)
				e := newEdge(t, one("*", s.url))
				test(t, e, s, client)
			})
		}
	}
}

// end waits for the end of a connection and tells how it was.
func (s *webSocketServer) end(t *testing.T) string {
	t.Helper()
	select {
	case how := <-s.how:
		return how
	case <-time.After(patience):
		t.Fatal("a connection of the server does not end")
		return ""
	}
}

// nodeServer runs server.js until the test ends.
func nodeServer(t *testing.T) webSocketServer {
	cmd := nodeCommand(t, "server.js")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := webSocketServer{how: make(chan string, 100)}
	lines, read := bufio.NewScanner(stdout), make(chan struct{})
	t.Cleanup(func() {
		_ = stdin.Close()
		<-read
		_ = cmd.Wait() // Its status says nothing: the end of the test may have killed it.
	})
	if !lines.Scan() {
		close(read)
		t.Fatal("node server.js: no port came")
	}
	s.url = "http://127.0.0.1:" + lines.Text()
	go func() {
		defer close(read)
		for lines.Scan() {
			s.how <- lines.Text()
		}
	}()
	return s
}

// nodeClient runs client.js.
func nodeClient(t *testing.T, addr, mode string) []string {
	args := []string{"ws://" + addr + "/", mode}
	if mode != "soak" {
		return runNode(t, "client.js", args...)
	}
	lines := runNode(t, "client.js", append(args, fmt.Sprint(soakTime.Seconds()), strconv.Itoa(soakConnections))...)
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "{") })
	if i < 0 {
		t.Fatalf("client.js did not finish: %q", lines)
	}
	var sent struct{ Messages, Bytes int }
	if err := json.Unmarshal([]byte(lines[i]), &sent); err != nil || sent.Messages == 0 {
		t.Errorf("client.js sent nothing: %q, %v", lines[i], err)
	}
	t.Logf("%d messages, %d bytes each way", sent.Messages, sent.Bytes)
	return slices.Delete(lines, i, i+1)
}

// compressed offers or accepts permessage-deflate for messages of any size, with the context kept.
const compressed = websocket.CompressionContextTakeover

// coderServer serves with coder/websocket until the test ends.
func coderServer(t *testing.T) webSocketServer {
	s := webSocketServer{how: make(chan string, 100)}
	s.url = backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grip := &hijackGrip{ResponseWriter: w}
		c, err := websocket.Accept(grip, r, &websocket.AcceptOptions{
			InsecureSkipVerify: true, CompressionMode: compressed, CompressionThreshold: 1, // Origin and Host differ here.
		})
		if err != nil {
			s.how <- err.Error()
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(16 << 20)
		s.how <- serveMessages(context.WithoutCancel(r.Context()), c, grip)
	})).URL()
	return s
}

// hijackGrip keeps hold of the connection under a WebSocket.
type hijackGrip struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (g *hijackGrip) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	c, rw, err = http.NewResponseController(g.ResponseWriter).Hijack()
	g.conn = c
	return c, rw, err
}

// serveMessages does what server.js does, and returns how the connection ended.
func serveMessages(ctx context.Context, c *websocket.Conn, grip *hijackGrip) string {
	sums := newSums()
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return howEnded(err)
		}
		if kind == websocket.MessageBinary {
			sums.up.Write(message)
			sums.down.Write(message)
			if err = c.Write(ctx, kind, message); err != nil {
				return howEnded(err)
			}
			continue
		}
		switch string(message) {
		case "sums":
			err = c.Write(ctx, websocket.MessageText, []byte(sums.text()))
		case "close":
			if err = c.Close(4002, "server done"); err == nil {
				return "4002 server done"
			}
		case "reset":
			resetConn(grip.conn)
			return "torn by itself"
		}
		if err != nil {
			return howEnded(err)
		}
	}
}

// howEnded puts the end of a connection as peer.js does.
func howEnded(err error) string {
	var frame websocket.CloseError
	switch {
	case errors.As(err, &frame):
		return fmt.Sprintf("%d %s", frame.Code, frame.Reason)
	case errors.Is(err, syscall.ECONNRESET):
		return "ECONNRESET"
	}
	return err.Error()
}

// resetConn ends a TCP connection, or one that embeds it, with an RST.
func resetConn(c net.Conn) {
	_ = c.(interface{ SetLinger(int) error }).SetLinger(0)
	_ = c.Close()
}

// coderClient does with coder/websocket what client.js does.
func coderClient(t *testing.T, addr, mode string) []string {
	if mode != "soak" {
		return []string{coderEnding(t, addr, mode)}
	}
	var all sync.WaitGroup
	var messages, bytes atomic.Int64
	ends := make([]string, soakConnections)
	for i := range ends {
		all.Go(func() {
			n, size, how := coderSoak(t, addr)
			messages.Add(n)
			bytes.Add(size)
			ends[i] = how
		})
	}
	all.Wait()
	t.Logf("%d messages, %d bytes each way", messages.Load(), bytes.Load())
	return ends
}

// dialCoder opens a connection through an edge, with compression agreed.
func dialCoder(ctx context.Context, addr string) (c *websocket.Conn, tcp net.Conn, err error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		tcp, err = new(net.Dialer).DialContext(ctx, network, addr)
		return tcp, err
	}}
	c, resp, err := websocket.Dial(ctx, "ws://"+addr+"/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, CompressionMode: compressed, CompressionThreshold: 1,
	})
	if err != nil {
		return nil, nil, err
	}
	c.SetReadLimit(16 << 20)
	if !strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		_ = c.CloseNow()
		return nil, nil, errors.New("compression was not agreed")
	}
	return c, tcp, nil
}

// coderSoak sends random messages on one connection and checks what comes back, then the digests.
func coderSoak(t *testing.T, addr string) (messages, bytes int64, how string) {
	ctx, cancel := context.WithTimeout(t.Context(), *soakTime+2*patience)
	defer cancel()
	c, _, err := dialCoder(ctx, addr)
	if err != nil {
		return 0, 0, err.Error()
	}
	defer c.CloseNow()
	seed := rand.Uint64()
	random, sums := rand.New(rand.NewPCG(seed, 1)), newSums()
	for end := time.Now().Add(*soakTime); time.Now().Before(end); messages++ {
		sent := randomMessage(random)
		if err := c.Write(ctx, websocket.MessageBinary, sent); err != nil {
			return messages, bytes, fmt.Sprintf("seed %d: write: %v", seed, err)
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return messages, bytes, fmt.Sprintf("seed %d: read: %v", seed, err)
		}
		sums.up.Write(sent)
		sums.down.Write(got)
		bytes += int64(len(sent))
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("sums")); err != nil {
		return messages, bytes, fmt.Sprintf("seed %d: write: %v", seed, err)
	}
	if _, theirs, err := c.Read(ctx); err != nil || string(theirs) != sums.text() {
		return messages, bytes, fmt.Sprintf("seed %d: the digests differ: %s, %v; want %s", seed, theirs, err, sums.text())
	}
	if err := c.Close(4001, "client done"); err != nil {
		return messages, bytes, fmt.Sprintf("seed %d: close: %v", seed, err)
	}
	return messages, bytes, "4001 client done"
}

// randomMessage makes a message of random size, half of them such as compress well.
func randomMessage(random *rand.Rand) []byte {
	message := make([]byte, random.IntN(1<<random.IntN(18)))
	period := len(message) + 1
	if random.IntN(2) == 0 {
		period = 1 + random.IntN(50)
	}
	for i := range message {
		if i < period {
			message[i] = byte(random.Uint32())
		} else {
			message[i] = message[i-period]
		}
	}
	return message
}

// coderEnding ends one connection in the way that a mode names, and returns how that looks.
func coderEnding(t *testing.T, addr, mode string) string {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, tcp, err := dialCoder(ctx, addr)
	if err != nil {
		return err.Error()
	}
	defer c.CloseNow()
	switch mode {
	case "close":
		if err = c.Close(4001, "client done"); err == nil {
			return "4001 client done"
		}
		return err.Error()
	case "reset":
		// Before a message has come net/http may still be reading in the background: it would swallow the reset.
		if err = c.Write(ctx, websocket.MessageText, []byte("sums")); err == nil {
			_, _, err = c.Read(ctx)
		}
		if err != nil {
			return err.Error()
		}
		resetConn(tcp)
		return "torn by itself"
	}
	command := map[string]string{"closed": "close", "torn": "reset"}[mode]
	if err := c.Write(ctx, websocket.MessageText, []byte(command)); err != nil {
		return err.Error()
	}
	_, _, err = c.Read(ctx)
	return howEnded(err)
}
