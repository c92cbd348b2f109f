//go:build !race

package proxy_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// What connections and tunnels may cost, and how many are tried.
const (
	idleCount   = 2000
	idleBytes   = 8 << 10
	tunnelCount = 1000
	tunnelBytes = 48 << 10
)

// testIdleConnections holds keep-alive connections open: each costs little memory when it rests, and all are still
// served in the end.
func testIdleConnections(t *testing.T, binary string) {
	b := backendtest.Echo(t, "b")
	p := startProgram(t, binary, 1, b.URL(), nil)
	p.dial().wantAlive("a.example")
	before := p.memory("VmRSS")
	open := make([]*client, idleCount)
	for i := range open {
		open[i] = p.dial()
		open[i].wantAlive("a.example") // It has been used: the buffers of a request must not stay with it.
	}
	p.awaitMetric("sluice_connections_parked", idleCount+1)
	limit := before + idleCount*idleBytes
	eventually(t, "memory to be given back", func() bool { return p.memory("VmRSS") <= limit })
	wantEach(t, "idle connection", p.memory("VmRSS")-before, idleCount, idleBytes)
	for _, c := range open {
		c.wantAlive("a.example")
	}
}

// testTunnels holds tunnels open, each of which has carried bytes, and carries some in the end.
func testTunnels(t *testing.T, binary string) {
	b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send(switching), backendtest.EchoBytes())
	p := startProgram(t, binary, 2, b.URL(), nil)
	first := openTunnel(t, p)
	echoThrough(t, first)
	before := p.memory("VmRSS")
	open := make([]*client, tunnelCount)
	for i := range open {
		open[i] = openTunnel(t, p)
		echoThrough(t, open[i])
	}
	p.awaitMetric("sluice_tunnels", tunnelCount+1)
	wantEach(t, "tunnel", p.memory("VmRSS")-before, tunnelCount, tunnelBytes)
	for _, c := range open {
		echoThrough(t, c)
	}
}

func openTunnel(t *testing.T, p *program) *client {
	t.Helper()
	c := p.dial()
	c.send(request("GET", "/", "a.example", upgradeFields...))
	if a, err := readAnswerHead(c.r, "GET"); err != nil || a.StatusCode != 101 {
		t.Fatalf("got %+v, %v; want 101", a, err)
	}
	return c
}

func echoThrough(t *testing.T, c *client) {
	t.Helper()
	const text = "hello through the tunnel"
	c.send(text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != text {
		t.Fatalf("%q came back, %v", got, err)
	}
}

// wantEach states the memory of each of n things, and fails the test if it is too much.
func wantEach(t *testing.T, what string, grown int64, n, limit int64) {
	t.Helper()
	t.Logf("%d bytes of memory for each %s, %d of them", grown/n, what, n)
	if grown/n > limit {
		t.Errorf("%d bytes of memory for each %s, want at most %d", grown/n, what, limit)
	}
}

// backendCount is how many connections to a backend are made. backendBytes is what one may cost that is not used, together
// with what its client's connection has left behind: descriptors of goroutines and sockets, and pages that are not empty.
var backendCount = flag.Int("backends", 1000, "connections to a backend that rest while memory is watched")

const backendBytes = 8 << 10

// testIdleBackends makes as many connections to a backend as there are requests at once. When the clients have left, each
// that rests costs little memory, and none is lost.
func testIdleBackends(t *testing.T, binary string) {
	n := *backendCount
	var under atomic.Int64 // requests at the backend
	var all atomic.Pointer[chan struct{}]
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if together := all.Load(); together != nil {
			under.Add(1)
			<-*together
		}
		_, _ = io.WriteString(w, "answer")
	}))
	p := startProgram(t, binary, 4, b.URL(), map[string]any{"backendIdleTimeout": 120, "maxBackendConnections": n})
	p.dial().wantAlive("a.example")
	before := p.memory("VmRSS")
	together := make(chan struct{})
	all.Store(&together)
	open := make([]*client, n)
	for i := range open {
		open[i] = p.dial()
		open[i].send(request("GET", "/", "a.example"))
	}
	eventually(t, "all requests at the backend", func() bool { return under.Load() == int64(n) })
	all.Store(nil)
	close(together)
	for _, c := range open {
		if a := c.answer("GET"); a.StatusCode != 200 {
			t.Fatalf("got %d", a.StatusCode)
		}
		_ = c.Close()
	}
	p.awaitMetric("sluice_connections", 1)
	limit := before + int64(n)*backendBytes
	eventually(t, "memory to be given back", func() bool { return p.memory("VmRSS") <= limit })
	wantEach(t, "connection to a backend that rests", p.memory("VmRSS")-before, int64(n), backendBytes)
	if got := b.OpenConns(); got < n {
		t.Errorf("%d connections rest, want %d", got, n)
	}
}

// Streams that are under way at once, and by how much the process may grow meanwhile.
const (
	streamCount  = 32
	streamGrowth = 64 << 20
)

// streamMiB is how large their bodies are.
var streamMiB = flag.Int("stream", bulk>>20, "MiB of each body that passes while memory is watched")

// testStreams lets large bodies pass in both directions at once, half of them in chunks. What the process holds of them is
// bounded.
func testStreams(t *testing.T, binary string) {
	piece, size := make([]byte, 64<<10), int64(*streamMiB)<<20
	b := backendtest.Raw(t, func(c *backendtest.Conn) { // It sends back what comes, as it comes.
		q, err := c.ReadHead()
		if err != nil {
			return
		}
		body, err := c.Body(q)
		if err != nil {
			return
		}
		framing, w := streamFraming(c, q.Value("Content-Length") == "", size)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n%s\r\n\r\n", framing)
		n, err := io.CopyBuffer(w, body, make([]byte, len(piece)))
		if err = errors.Join(err, w.Close()); n != size || err != nil {
			t.Errorf("%d of %d bytes came up, %v", n, size, err)
		}
	})
	p := startProgram(t, binary, 3, b.URL(), nil)
	if a := p.dial().do("GET", "/", "__ping__"); a.StatusCode != 200 {
		t.Fatalf("ping: %d", a.StatusCode)
	}
	before, start := p.memory("VmRSS"), time.Now()
	var all sync.WaitGroup
	for i := range streamCount {
		c := p.dial()
		_ = c.SetDeadline(time.Now().Add(12*patience + time.Duration(*streamMiB)*time.Second))
		all.Go(func() {
			if err := streamBothWays(c, i%2 == 0, piece, size); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	grown := p.memory("VmHWM") - before
	t.Logf("the process grew by %d KiB at most while %d times %d MiB passed each way, in %v", grown>>10, streamCount, *streamMiB, time.Since(start))
	if grown > streamGrowth {
		t.Errorf("the process grew by %d bytes, want at most %d", grown, streamGrowth)
	}
}

// streamBothWays uploads and downloads size bytes at the same time.
func streamBothWays(c *client, chunked bool, piece []byte, size int64) error {
	sent := make(chan error, 1)
	go func() {
		framing, w := streamFraming(c, chunked, size)
		_, err := io.WriteString(c, request("POST", "/", "a.example", framing))
		for n := int64(0); n < size && err == nil; n += int64(len(piece)) {
			_, err = w.Write(piece)
		}
		sent <- errors.Join(err, w.Close())
	}()
	a, err := readAnswerHead(c.r, "POST")
	if err != nil {
		return err
	}
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, a.Body, make([]byte, len(piece))); n != size || err != nil {
		return fmt.Errorf("%d of %d bytes came down: %w", n, size, err)
	}
	return <-sent
}

// streamFraming returns the field that frames a body of size bytes, and what its bytes are written to, with its end by Close.
func streamFraming(c io.Writer, chunked bool, size int64) (field string, w io.WriteCloser) {
	if chunked {
		return "Transfer-Encoding: chunked", &chunkedStream{httputil.NewChunkedWriter(c), c}
	}
	return "Content-Length: " + strconv.FormatInt(size, 10), &plainStream{c}
}

type plainStream struct{ io.Writer }

func (*plainStream) Close() error { return nil }

type chunkedStream struct {
	io.WriteCloser
	under io.Writer
}

func (s *chunkedStream) Close() error {
	err := s.WriteCloser.Close()
	_, worse := io.WriteString(s.under, "\r\n")
	return errors.Join(err, worse)
}
