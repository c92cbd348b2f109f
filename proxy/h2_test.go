package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/internal/backendtest"
)

// A request for a name that neither the handshake asked for nor the certificate holds has come the wrong way. In
// HTTP/1.1 it passes: a connection there was made for one host. Where the certificate comes from does not matter.
func TestH2_Misdirected(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	routes := routeList{"*": {"any", b.URL()}}
	for _, tt := range []struct {
		name   string
		change func(*setup)
	}{
		{"a list", func(*setup) {}},
		{"a function", func(s *setup) { // As the program has it.
			pair := s.bind.TLS.Certificates[0]
			s.bind.TLS.Certificates = nil
			s.bind.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
		}},
	} {
		e, cert := newMultiEdge(t, routes, tt.change)
		for _, v := range versions {
			c := v.visit(t, e, cert)
			for host, covered := range map[string]bool{
				"edge.example": true, "A.example": true, "x.pool.example": true, "a.example:443": true, "127.0.0.1": true,
				"y.x.pool.example": false, "stranger.example": false, "[::1]": false,
			} {
				q := c.request("GET", "/", "a.example", nil)
				q.Host = host
				status, cause := 421, "misdirected"
				if covered || v.name == "http/1.1" {
					status, cause = 200, ""
				}
				if a := c.send(q); a.StatusCode != status || a.cause() != cause {
					t.Errorf("certificate from %s, %s, %s: %d %q, want %d %q", tt.name, v.name, host, a.StatusCode, a.cause(), status, cause)
				}
			}
		}
		// A client that names nobody cannot be misled.
		c := versions[1].visit(t, e, cert)
		transport := c.http.Transport.(*http.Transport)
		transport.TLSClientConfig.ServerName = "127.0.0.1"
		q := c.request("GET", "/", "a.example", nil)
		q.Host = "stranger.example"
		wantStatus(t, c.send(q), 200, "")
		if got := e.metric("sluice_panics_total"); got != 0 {
			t.Errorf("certificate from %s: %v panics", tt.name, got)
		}
	}
}

// HTTP/2 is spoken only where it is offered, and never on a plain port.
func TestH2_WhereItIsSpoken(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	for name, change := range map[string]func(*setup){
		"off":       func(s *setup) { s.bind.HTTP2 = false },
		"forbidden": func(s *setup) { s.bind.TLS.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256} },
	} {
		e, cert := newMultiEdge(t, one("a.example", b.URL()), change)
		tc := tls.Client(e.dial().Conn, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h2", "http/1.1"}})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got := tc.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
			t.Errorf("%s: negotiated %q", name, got)
		}
	}
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(http2.ClientPreface)
	wantStatus(t, c.answer("GET"), 400, "bad_request")
	c.wantEnd()
}

// A drain tells clients to go, lets what runs end, and then ends.
func TestH2_Drain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "late")
	}))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	idle, busy := e.dialH2(cert), e.dialH2(cert)
	stream, err := busy.open(true, "GET", "/", "a.example")
	busy.must(err)
	e.awaitInFlight(1)
	e.awaitMetric("sluice_http2_connections", 2)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- e.shutdown(ctx)
	}()
	for name, c := range map[string]*frames{"idle": idle, "busy": busy} {
		if code, err := c.goneAway(); err != nil || code != http2.ErrCodeNo {
			t.Errorf("%s: GOAWAY %v, %v", name, code, err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("shutdown did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if got := busy.status(stream); got != "200" {
		t.Errorf("status %s", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if line := e.awaitLog(1)[0]; !strings.Contains(line, " 200 ") {
		t.Errorf("log line %q", line)
	}
}

// What clients leave hanging ends: an idle connection, a head without an end.
func TestH2_Timeouts(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.IdleTimeout = 300 * time.Millisecond })
	if code, err := e.dialH2(cert).goneAway(); err != nil || code != http2.ErrCodeNo {
		t.Errorf("idle: GOAWAY %v, %v", code, err)
	}
	e.awaitMetric("sluice_connections", 0)

	e, cert = newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.HeaderTimeout = 300 * time.Millisecond })
	open, part := e.dialH2(cert), e.dialH2(cert)
	open.must(open.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: open.head("GET", "/", "a.example"), EndStream: true}))
	_, err := part.Write([]byte{0, 0, 50, 1, 5})
	part.must(err)
	for name, c := range map[string]*frames{"no end of head": open, "half a frame": part} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c.Conn); isTimeout(err) {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	e.awaitMetric(`sluice_errors_total{cause="request_timeout"}`, 2)
	// A connection that only waits, or uploads, is none of these.
	quiet := e.dialH2(cert)
	stream, err := quiet.open(false, "POST", "/", "a.example")
	quiet.must(err)
	for range 8 {
		time.Sleep(200 * time.Millisecond)
		quiet.must(quiet.WriteData(stream, false, []byte("x")))
	}
	quiet.must(quiet.WriteData(stream, true, nil))
	if got := quiet.status(stream); got != "200" {
		t.Errorf("status %s", got)
	}
}

// The number of streams is limited by what the client is told, and a reload reaches new connections.
func TestH2_MaxStreams(t *testing.T) {
	t.Parallel()
	w := newWaiting(t, "")
	e, cert := newMultiEdge(t, one("a.example", w.URL()), func(s *setup) { s.MaxStreams = 3 })
	told := func(c *frames) (n uint32) {
		t.Helper()
		_, err := c.await(func(f http2.Frame) bool {
			s, ok := f.(*http2.SettingsFrame)
			if !ok {
				return false
			}
			n, ok = s.Value(http2.SettingMaxConcurrentStreams)
			if ok {
				c.must(c.WriteSettingsAck())
			}
			return ok
		})
		c.must(err)
		return n
	}
	c := e.dialH2(cert)
	if n := told(c); n != 3 {
		t.Errorf("told %d", n)
	}
	for range 4 {
		_, err := c.open(true, "GET", "/", "a.example")
		c.must(err)
	}
	f, err := c.await(func(f http2.Frame) bool { _, ok := f.(*http2.RSTStreamFrame); return ok })
	if err != nil || f.Header().StreamID != 7 {
		t.Errorf("reset of stream %v, %v", f, err)
	}
	e.awaitInFlight(3)
	cfg := e.config
	cfg.MaxStreams = 5
	if err := e.server.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if n := told(e.dialH2(cert)); n != 5 {
		t.Errorf("after a reload: told %d", n)
	}
}

// CONNECT gets its answer; WebSocket over a stream (RFC 8441) is not announced, and refused.
func TestH2_Connect(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.block.Reset()
	head := c.head("CONNECT", "/", "a.example", ":protocol", "websocket")
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true}))
	f, err := c.await(func(f http2.Frame) bool { _, ok := f.(*http2.RSTStreamFrame); return ok })
	if err != nil || f.(*http2.RSTStreamFrame).ErrCode != http2.ErrCodeProtocol {
		t.Errorf("extended CONNECT: %v, %v", f, err)
	}
	c.block.Reset()
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "a.example:443"}} {
		c.must(c.encoder.WriteField(f))
	}
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: true}))
	if got := c.status(3); got != "405" {
		t.Errorf("CONNECT: %s", got)
	}
	c.next = 5
	stream, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	if got := c.status(stream); got != "200" {
		t.Errorf("next request: %s", got)
	}
}
