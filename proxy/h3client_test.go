package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"sluice/internal/backendtest"
)

// visitH3 makes a visitor that speaks HTTP/3.
func visitH3(t testing.TB, e *edge, cert backendtest.Certificate) *visitor {
	transport := &http3.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example"},
		DisableCompression: true,
		Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			tlsConfig = tlsConfig.Clone()
			tlsConfig.ServerName = "edge.example"
			return e.dialQUIC(ctx, tlsConfig, config)
		},
	}
	t.Cleanup(func() { _ = transport.Close() })
	return &visitor{t: t, e: e, http: &http.Client{Transport: transport, Timeout: 6 * patience}}
}

// dialQUIC opens a QUIC connection from a socket of its own, which ends with the test.
func (e *edge) dialQUIC(ctx context.Context, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: pc}
	e.t.Cleanup(func() {
		_ = transport.Close()
		_ = pc.Close()
	})
	return transport.Dial(ctx, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: e.port}, tlsConfig, config)
}

// rawH3 is a client that sends frames of HTTP/3 one by one, right or wrong.
type rawH3 struct {
	*quic.Conn
	t       testing.TB
	control *quic.SendStream
}

// dialH3 opens a connection, and its control stream with empty settings.
func (e *edge) dialH3(cert backendtest.Certificate) *rawH3 {
	e.t.Helper()
	c := e.dialH3Bare(cert)
	c.control = c.uni(0x00, 0x04, 0x00)
	return c
}

// dialH3Bare opens a connection that says nothing.
func (e *edge) dialH3Bare(cert backendtest.Certificate) *rawH3 {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := e.dialQUIC(ctx, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h3"}}, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return &rawH3{Conn: conn, t: e.t}
}

func (c *rawH3) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// uni opens a unidirectional stream that begins with b.
func (c *rawH3) uni(b ...byte) *quic.SendStream {
	c.t.Helper()
	s, err := c.OpenUniStream()
	c.must(err)
	_, err = s.Write(b)
	c.must(err)
	return s
}

// frameH3 makes a frame.
func frameH3(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// headersH3 makes a HEADERS frame; fields are name and value in turns.
func headersH3(fields ...string) []byte {
	var block bytes.Buffer
	enc := qpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // A buffer never fails.
	}
	return frameH3(0x1, block.Bytes())
}

// requestH3 makes the HEADERS frame of a request, with more fields.
func requestH3(method, path, host string, fields ...string) []byte {
	return headersH3(append([]string{":method", method, ":scheme", "https", ":authority", host, ":path", path}, fields...)...)
}

// open sends bytes on a stream of their own, and its end if that is wanted.
func (c *rawH3) open(b []byte, end bool) *quic.Stream {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := c.OpenStreamSync(ctx)
	c.must(err)
	_, err = s.Write(b)
	c.must(err)
	if end {
		c.must(s.Close())
	}
	return s
}

// answerH3 is what came on a stream.
type answerH3 struct {
	interim []string
	status  string
	fields  map[string]string
	body    string
	trailer map[string]string
}

// read reads an answer up to its end. The error is what ended the stream before that.
func (c *rawH3) read(s *quic.Stream) (a answerH3, err error) {
	_ = s.SetReadDeadline(time.Now().Add(patience))
	all, err := io.ReadAll(s)
	r := bytes.NewReader(all)
	for r.Len() > 0 {
		kind, e1 := quicvarint.Read(r)
		length, e2 := quicvarint.Read(r)
		payload := make([]byte, min(length, uint64(len(all))))
		n, e3 := io.ReadFull(r, payload)
		if e := errors.Join(e1, e2, e3); e != nil && err == nil {
			return a, e
		}
		switch kind {
		case 0x0:
			a.body += string(payload[:n])
		case 0x1:
			fields := map[string]string{}
			next := qpack.NewDecoder().Decode(payload)
			for f, e := next(); e == nil; f, e = next() {
				fields[f.Name] = f.Value
			}
			switch status := fields[":status"]; {
			case strings.HasPrefix(status, "1"):
				a.interim = append(a.interim, status)
			case status != "":
				a.status, a.fields = status, fields
			default:
				a.trailer = fields
			}
		}
	}
	return a, err
}

// ended waits for the connection's end and returns its code.
func (c *rawH3) ended() (code uint64, local bool) {
	c.t.Helper()
	select {
	case <-c.Context().Done():
	case <-time.After(patience):
		c.t.Error("the connection goes on")
		return 0, false
	}
	var app *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &app) {
		c.t.Errorf("the connection ended by %v", err)
		return 0, false
	}
	return uint64(app.ErrorCode), !app.Remote
}
