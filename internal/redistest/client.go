package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// replyTimeout bounds the wait for the reply to a command.
const replyTimeout = 10 * time.Second

// Error is an error reply of Redis ("WRONGTYPE Operation against a key ...").
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// Client is one RESP2 connection. It is for one goroutine at a time.
//
// A reply is a string (simple or bulk), an int64, nil (a missing value), an Error (inside an
// array), or []any of these.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

// Dial connects to a Redis server; network is "tcp" or "unix".
func Dial(network, addr string) (*Client, error) {
	conn, err := net.DialTimeout(network, addr, replyTimeout)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, r: bufio.NewReader(conn), w: bufio.NewWriter(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Do sends one command and returns its reply; an error reply is returned as an Error.
func (c *Client) Do(args ...string) (any, error) {
	if err := c.Send(args...); err != nil {
		return nil, err
	}
	return c.Receive(replyTimeout)
}

// Send buffers one command; Receive sends what is buffered. Several Sends before as many Receives
// make a pipeline.
func (c *Client) Send(args ...string) error {
	if len(args) == 0 {
		return errors.New("send command: no words given")
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	fmt.Fprintf(c.w, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(c.w, "$%d\r\n%s\r\n", len(a), a)
	}
	// The writer keeps its first error and reports it at the flush.
	return nil
}

// Receive sends what is buffered and waits at most timeout for the next reply: the answer to a
// Send, or a message after SUBSCRIBE or MONITOR.
func (c *Client) Receive(timeout time.Duration) (any, error) {
	if err := c.w.Flush(); err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	v, err := c.reply()
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	if e, ok := v.(Error); ok {
		return nil, e
	}
	return v, nil
}

// reply parses one RESP2 value.
func (c *Client) reply() (any, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	rest := line[1:]
	switch line[0] {
	case '+':
		return rest, nil
	case '-':
		return Error(rest), nil
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '$':
		return c.bulk(rest)
	case '*':
		return c.array(rest)
	}
	return nil, fmt.Errorf("unexpected line %q", line)
}

// line is the next line without its CRLF; it has at least one byte.
func (c *Client) line() (string, error) {
	s, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if len(s) < 3 || s[len(s)-2] != '\r' {
		return "", fmt.Errorf("unexpected line %q", s)
	}
	return s[:len(s)-2], nil
}

func (c *Client) bulk(length string) (any, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return nil, err
	}
	buf := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(c.r, buf); err != nil {
		return nil, err
	}
	return string(buf[:n]), nil
}

func (c *Client) array(length string) (any, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return nil, err
	}
	values := make([]any, n)
	for i := range values {
		if values[i], err = c.reply(); err != nil {
			return nil, err
		}
	}
	return values, nil
}
