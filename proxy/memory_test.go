package proxy

import (
	"bytes"
	"io"
	"net"
	"time"
)

// memoryConn is a connection whose peer has said all that it will say: it is read in pieces of a given size, and then ends.
// What is written is kept. It needs no system call, so that a fuzzer gets through more of them.
type memoryConn struct {
	in    []byte
	piece int
	out   bytes.Buffer
}

func (c *memoryConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(c.piece, 1))], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *memoryConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *memoryConn) Close() error                { return nil }
func (c *memoryConn) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (c *memoryConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4000}
}

func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
