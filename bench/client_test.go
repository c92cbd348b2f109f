package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// answerTimeout bounds the wait for one answer; it is set once for many requests, since setting
// it costs time.
const (
	answerTimeout     = 30 * time.Second
	requestsPerExpiry = 1 << 14
)

// client is one connection that sends requests and checks answers; but for a work whose requests each
// take a connection of their own, it does so without allocating.
type client struct {
	addr     string
	work     work
	conn     net.Conn
	buf      []byte
	answer   int // bytes of one whole answer, head included; for chunked ones, of the longest
	chunked  bool
	requests int
}

// newClient connects and sends the first request to learn the length of its answer: whatever differs
// from it afterwards is an error.
func newClient(addr string, w work, message []byte) (*client, error) {
	c := &client{addr: addr, work: w}
	if err := c.dial(); err != nil {
		return nil, err
	}
	if err := c.learn(message); err != nil {
		c.close()
		return nil, fmt.Errorf("first request: %w", err)
	}
	return c, nil
}

func (c *client) dial() (err error) {
	c.conn, err = net.Dial("tcp", c.addr)
	return err
}

func (c *client) close() { _ = c.conn.Close() }

// learn sends a request and measures its answer.
func (c *client) learn(message []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if c.work.tunnel {
		return c.upgrade(len(message))
	}
	if _, err := c.conn.Write(message); err != nil {
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
	c.chunked = len(resp.TransferEncoding) > 0
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 && !c.chunked || r.Buffered() != 0 {
		return fmt.Errorf("status %d, length %d, %d bytes more: want 200 and a length", resp.StatusCode,
			resp.ContentLength, r.Buffered())
	}
	c.answer = raw.Len()
	if c.chunked {
		// Where chunks begin and end is the proxy's affair.
		c.answer += 1 << 10
	}
	c.buf = make([]byte, c.answer)
	return nil
}

// upgrade makes the connection a tunnel, whose messages come back as they are.
func (c *client) upgrade(message int) error {
	request := c.work
	request.body = ""
	if _, err := c.conn.Write(request.to(hostName(0))); err != nil {
		return err
	}
	r := bufio.NewReader(c.conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || r.Buffered() != 0 {
		return fmt.Errorf("status %d, %d bytes more: want 101", resp.StatusCode, r.Buffered())
	}
	c.answer, c.buf = message, make([]byte, message)
	return nil
}

// do sends a message, whose answer must be like the first one, and reads that.
func (c *client) do(message []byte) error {
	if c.work.closes {
		c.close()
		if err := c.dial(); err != nil {
			return err
		}
	}
	if c.work.closes || c.requests%requestsPerExpiry == 0 {
		if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
	}
	c.requests++
	if _, err := c.conn.Write(message); err != nil {
		return err
	}
	if err := c.read(); err != nil {
		return err
	}
	if c.work.tunnel {
		if !bytes.Equal(c.buf, message) {
			return fmt.Errorf("the message came back as %.60q", c.buf)
		}
		return nil
	}
	if !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer begins with %.60q", c.buf)
	}
	return nil
}

// read reads one answer.
func (c *client) read() error {
	if !c.chunked {
		_, err := io.ReadFull(c.conn, c.buf)
		return err
	}
	end := []byte(endOfChunks)
	for n := 0; n < len(c.buf); {
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return err
		}
		if n += m; bytes.HasSuffix(c.buf[:n], end) {
			return nil
		}
	}
	return fmt.Errorf("%d bytes without an end", len(c.buf))
}
