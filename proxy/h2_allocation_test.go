//go:build !race

package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"sluice/internal/certtest"
)

// h2Budget is what a small request over HTTP/2 may allocate: nothing of ours. crypto/tls makes a reader for each record
// that it reads, here one for each request and one, in the client, for each answer.
const h2Budget = 2

func TestAlloc_H2(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nServer: test\r\nX-Id: 5\r\nContent-Type: text/plain\r\n" +
		"Content-Length: 11\r\n\r\nhello world"
	pair := certtest.New(t).Issue(t, "www.example.com")
	cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.Key))
	if err != nil {
		t.Fatal(err)
	}
	bind := Bind{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, HTTP2: true}
	addr := serveBindForAllocs(t, cannedBackend(t, 0, answer), bind)
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com", NextProtos: []string{protoHTTP2}}) //nolint:gosec // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &h2Caller{t: t, conn: conn, stream: 1, buf: make([]byte, 64<<10)}
	c.begin()
	const requests = 1000
	for range requests {
		c.call()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	best := 1e9
	for range allocRuns {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range requests {
			c.call()
		}
		runtime.ReadMemStats(&after)
		best = min(best, float64(after.Mallocs-before.Mallocs)/requests)
	}
	t.Logf("%.4f allocations per request", best)
	if best > h2Budget+allocSlack {
		t.Errorf("%.3f allocations per request, the budget is %d", best, h2Budget)
	}
}

// h2Caller sends one request after another and allocates nothing.
type h2Caller struct {
	t      *testing.T
	conn   net.Conn
	stream uint32
	out    []byte
	buf    []byte
	have   int
}

func (c *h2Caller) begin() {
	b := append([]byte(clientPreface), appendH2Header(nil, 0, frameSettings, 0, 0)...)
	b = appendH2Header(b, 0, frameSettings, flagAck, 0)
	b = appendWindowUpdate(b, 0, 1<<30)
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
}

// call sends a GET and reads the answer to its end.
func (c *h2Caller) call() {
	block := append(append(c.out[:0], make([]byte, frameHeaderSize)...), 0x82, 0x87, 0x84) // GET, https, /
	if c.stream == 1 {
		block = append(append(block, 0x41, 15), "www.example.com"...) // :authority, to be indexed.
	} else {
		block = append(block, 0x80|staticEntries+1)
	}
	c.out = block
	putFrameLength(block, len(block)-frameHeaderSize, flagEndHeaders|flagEndStream)
	block[3] = frameHeaders
	binary.BigEndian.PutUint32(block[5:], c.stream)
	if _, err := c.conn.Write(block); err != nil {
		c.t.Fatal(err)
	}
	for !c.ended() {
		n, err := c.conn.Read(c.buf[c.have:])
		if err != nil && err != io.EOF {
			c.t.Fatal(err)
		}
		c.have += n
	}
	c.stream += 2
}

// ended takes frames off the buffer and reports whether one of them ended the stream.
func (c *h2Caller) ended() bool {
	for c.have >= frameHeaderSize && c.have >= frameHeaderSize+frameLength(c.buf) {
		f := parseFrame(c.buf)
		if f.stream == c.stream && f.kind == frameHeaders && f.payload[0] != 0x88 {
			c.t.Fatalf("stream %d: %x", f.stream, f.payload)
		}
		last := f.stream == c.stream && f.kind <= frameHeaders && f.has(flagEndStream)
		c.have = copy(c.buf, c.buf[frameHeaderSize+frameLength(c.buf):c.have])
		if last {
			return true
		}
	}
	return false
}
