package backendtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"time"
)

// Conn is one connection to a raw backend. It is for one goroutine at a time.
type Conn struct {
	// Index counts the backend's connections from 0.
	Index int

	backend *Backend
	tcp     *tracked
	r       *bufio.Reader
}

// Raw runs handle for every connection; the connection is closed when it returns.
func Raw(t T, handle func(*Conn)) *Backend {
	t.Helper()
	return start(t, "http", func(b *Backend, ln net.Listener) {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.busy.Add(1)
			conn := &Conn{
				Index: b.Connects() - 1, backend: b, tcp: c.(*tracked), r: bufio.NewReader(c),
			}
			go func() {
				defer b.busy.Add(-1)
				defer conn.Close()
				handle(conn)
			}()
		}
	})
}

// ReadHead reads one request head and counts the request. io.EOF means that the peer closed the
// connection between two requests.
func (c *Conn) ReadHead() (*Request, error) {
	q, err := readHead(c.r)
	if err == nil {
		c.backend.requests.Add(1)
	}
	return q, err
}

// Body is the body of q, whose head was the last thing read; the caller reads it to its end, which
// sets q.Trailers.
func (c *Conn) Body(q *Request) (io.Reader, error) { return q.body(c.r) }

// ReadRequest reads one whole request, Body and Trailers included.
func (c *Conn) ReadRequest() (*Request, error) {
	q, err := c.ReadHead()
	if err != nil {
		return nil, err
	}
	body, err := c.Body(q)
	if err != nil {
		return q, err
	}
	if q.Body, err = io.ReadAll(body); err != nil {
		return q, fmt.Errorf("read body: %w", err)
	}
	return q, nil
}

// Read reads raw bytes.
func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Write sends raw bytes at once.
func (c *Conn) Write(p []byte) (int, error) { return c.tcp.Write(p) }

// WriteString sends raw bytes at once.
func (c *Conn) WriteString(s string) (int, error) { return io.WriteString(c.tcp, s) }

// CloseWrite sends a FIN; reading goes on.
func (c *Conn) CloseWrite() error { return c.tcp.CloseWrite() }

// Close ends the connection in both directions.
func (c *Conn) Close() error { return c.tcp.Close() }

// Reset ends the connection with a RST.
func (c *Conn) Reset() error {
	if err := c.tcp.SetLinger(0); err != nil {
		return err
	}
	return c.tcp.Close()
}

// Sleep waits d, or until the backend is killed.
func (c *Conn) Sleep(d time.Duration) { c.backend.sleep(d) }
