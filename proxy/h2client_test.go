package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/internal/backendtest"
)

// frames is a client that sends HTTP/2 frames one by one, right or wrong.
type frames struct {
	*http2.Framer
	net.Conn
	t       testing.TB
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // stream
}

// dialH2 opens a connection of frames and exchanges the first settings.
func (e *edge) dialH2(cert backendtest.Certificate, settings ...http2.Setting) *frames {
	e.t.Helper()
	raw := e.dial()
	tc := tls.Client(raw.Conn, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h2"}})
	if err := tc.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		e.t.Fatalf("negotiated %q, want h2", got)
	}
	c := &frames{Framer: http2.NewFramer(tc, tc), Conn: tc, t: e.t, next: 1}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(tc, http2.ClientPreface); err != nil {
		e.t.Fatal(err)
	}
	c.must(c.WriteSettings(settings...))
	return c
}

func (c *frames) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func hpackField(name, value string) hpack.HeaderField {
	return hpack.HeaderField{Name: name, Value: value}
}

// head encodes a request's head; fields are name and value in turns.
func (c *frames) head(method, path, host string, fields ...string) []byte {
	c.block.Reset()
	all := append([]string{":method", method, ":scheme", "https", ":authority", host, ":path", path}, fields...)
	for i := 0; i < len(all); i += 2 {
		c.must(c.encoder.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}))
	}
	return c.block.Bytes()
}

// open sends the head of a request on a stream of its own. It returns the error of a connection that has ended.
func (c *frames) open(end bool, method, path, host string, fields ...string) (stream uint32, err error) {
	stream, c.next = c.next, c.next+2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.head(method, path, host, fields...), EndStream: end, EndHeaders: true,
	})
}

// errStopped is what await returns when the connection has ended without what was waited for.
var errStopped = errors.New("connection ended")

// await reads frames until one is what is waited for. Settings and pings are acknowledged.
func (c *frames) await(wanted func(http2.Frame) bool) (http2.Frame, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errStopped, err)
		}
		if wanted(f) {
			return f, nil
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			if err := c.WriteSettingsAck(); err != nil {
				return nil, fmt.Errorf("%w: %w", errStopped, err)
			}
		}
	}
}

// settle waits for the server's settings. Nothing is written by later reads, so that another goroutine may write.
func (c *frames) settle() {
	c.t.Helper()
	_, err := c.await(func(f http2.Frame) bool {
		s, ok := f.(*http2.SettingsFrame)
		return ok && !s.IsAck()
	})
	c.must(err)
	c.must(c.WriteSettingsAck())
}

// status waits for the head of a stream's answer.
func (c *frames) status(stream uint32) string {
	c.t.Helper()
	f, err := c.await(func(f http2.Frame) bool {
		m, ok := f.(*http2.MetaHeadersFrame)
		return ok && m.StreamID == stream
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return f.(*http2.MetaHeadersFrame).PseudoValue("status")
}

// goneAway waits for a GOAWAY and returns its code.
func (c *frames) goneAway() (http2.ErrCode, error) {
	f, err := c.await(func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok })
	if err != nil {
		return 0, err
	}
	return f.(*http2.GoAwayFrame).ErrCode, nil
}
