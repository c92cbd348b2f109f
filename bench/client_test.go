package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"
)

// answerTimeout bounds the wait for one answer; it is set once for many requests, since setting
// it costs time.
const (
	answerTimeout     = 30 * time.Second
	requestsPerExpiry = 1 << 14
)

// client is one keep-alive connection that sends requests and checks answers without allocating.
type client struct {
	conn     net.Conn
	buf      []byte
	answer   int // bytes of one whole answer, head included
	requests int
}

// newClient connects and sends the request once to learn the length of its answer: whatever
// differs from it afterwards is an error.
func newClient(addr string, request []byte) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	if err := c.learn(request); err != nil {
		_ = conn.Close() // The error that matters is the one above.
		return nil, fmt.Errorf("first request: %w", err)
	}
	return c, nil
}

func (c *client) close() { _ = c.conn.Close() }

// learn sends request and measures its answer.
func (c *client) learn(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c.conn, &raw))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 || r.Buffered() != 0 {
		return fmt.Errorf("status %d, length %d, %d bytes more: want 200 and a length", resp.StatusCode,
			resp.ContentLength, r.Buffered())
	}
	c.answer = raw.Len()
	c.buf = make([]byte, c.answer)
	return nil
}

// do sends request, whose answer must be as long as the first one, and reads that.
func (c *client) do(request []byte) error {
	if c.requests%requestsPerExpiry == 0 {
		if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
	}
	c.requests++
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.buf); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer begins with %.60q", c.buf)
	}
	return nil
}

// connectionsPerCore is how many clients work at once on each core: with one alone the benchmark
// would measure wake-ups.
const connectionsPerCore = 16

// drive sends b.N requests over parallel connections, each of which begins at a place of its own
// in requests and goes round from there. All answers must have the same length.
func drive(b *testing.B, addr string, requests [][]byte) {
	b.Helper()
	clients := make(chan *client, connectionsPerCore*procs())
	for range cap(clients) {
		c, err := newClient(addr, requests[0])
		if err != nil {
			b.Fatal(err)
		}
		defer c.close()
		clients <- c
	}
	b.SetParallelism(connectionsPerCore)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c := <-clients
		for i := rand.IntN(len(requests)); pb.Next(); i++ {
			if err := c.do(requests[i%len(requests)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
}
