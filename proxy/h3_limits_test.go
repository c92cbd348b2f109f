package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2/hpack"

	"sluice/internal/backendtest"
	"sluice/proxy"
)

// holdHandshakes begins n handshakes from one address, none of which ends before release is called. The others, which
// are refused, have their errors in failed.
func (e *edge) holdHandshakes(cert backendtest.Certificate, n int) (failed <-chan error, release func()) {
	stop, ends, errs := make(chan struct{}), make(chan struct{}, n), make(chan error, n)
	for range n {
		go func() {
			defer func() { ends <- struct{}{} }()
			conn, err := e.dialQUIC(context.Background(), &tls.Config{
				RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h3"},
				VerifyConnection: func(tls.ConnectionState) error { <-stop; return nil },
			}, nil)
			if err != nil {
				errs <- err
				return
			}
			_ = conn.CloseWithError(0, "")
		}()
	}
	return errs, sync.OnceFunc(func() {
		close(stop)
		for range n {
			<-ends
		}
	})
}

// What one address may have holds for handshakes that do not end, too: others are served meanwhile. Nothing is left of
// them when they have ended.
func TestH3_HandshakesOfAnAddress(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	const all, limit = 20, 2
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) {
		s.MaxConnections, s.MaxConnectionsPerIP = all, limit
	})
	failed, release := e.holdHandshakes(cert, all+10)
	defer release()
	// As many again may be on their way that have not shown yet that the address is theirs.
	timeout := time.After(patience)
	for range all + 10 - 2*limit {
		select {
		case err := <-failed:
			var refused *quic.TransportError
			if !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
				t.Errorf("one handshake too many: %v", err)
			}
		case <-timeout:
			t.Fatalf("an address that may have %d connections holds %v of %d", limit, e.metric("sluice_connections"), all)
		}
	}
	if open := e.metric("sluice_connections"); open != 2*limit {
		t.Errorf("an address that may have %d connections holds %v, want %d", limit, open, 2*limit)
	}
	if got := e.metric(`sluice_limited_total{limit="max_connections"}`); got != 0 {
		t.Errorf("sluice was full %v times", got)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}
	raw, err := dialer.DialContext(t.Context(), "tcp4", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(patience))
	if err := tls.Client(raw, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example"}).Handshake(); err != nil {
		t.Errorf("another address, over TCP: %v", err)
	}
	_ = raw.Close()

	release()
	e.awaitMetric("sluice_connections", 0)
	retries := e.metric("sluice_http3_retries_total")
	for range limit {
		c := e.dialH3(cert)
		if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
			t.Errorf("after their end: %v, %v", a.status, err)
		}
	}
	if got := e.metric("sluice_http3_retries_total"); got != retries {
		t.Errorf("after their end: %v retries", got-retries)
	}
}

// Whoever sends in another's name uses up none of its connections: a client that shows where it is has all of them.
func TestH3_HandshakesInAnothersName(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	const limit = 2
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.MaxConnectionsPerIP = limit })
	_, release := e.holdHandshakes(cert, limit) // The server has heard no more of them than their first packets.
	defer release()
	e.awaitMetric("sluice_connections", limit)
	wantStatus(t, versions[0].visit(t, e, cert).do("GET", "/", "a.example"), 200, "")
	if got := e.metric("sluice_http3_retries_total"); got != 0 {
		t.Errorf("%v retries", got)
	}
	c := e.dialH3(cert)
	if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
		t.Errorf("over HTTP/3: %v, %v", a.status, err)
	}
	if got := e.metric("sluice_http3_retries_total"); got == 0 {
		t.Error("no retry")
	}
}

// A head that exceeds what is read of it is too large, also where the part that is read ends with a field, and what
// follows is no frame.
func TestH3_HeadBeyondItsLimit(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	limit := 2*e.config.MaxHeaderBytes + 32*e.config.MaxHeaderFields
	head := []byte{0, 0} // No table.
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", "/"}} {
		head = append(head, fieldH3(f[0], f[1], false)...)
	}
	for limit-len(head) > 4000 { // Longer than what is decoded from them, which fits all limits.
		head = append(head, fieldH3("x-fill-1", strings.Repeat("\xf9", 1000), true)...)
	}
	rest := limit - len(head) - (len(fieldH3("x-fill-2", strings.Repeat("0", 500), false)) - 500)
	head = append(head, fieldH3("x-fill-2", strings.Repeat("0", rest), false)...)
	if len(head) != limit {
		t.Fatalf("the head has %d bytes, want %d", len(head), limit)
	}
	for _, tt := range []struct {
		name, status, cause string
		more                []byte
	}{
		{"at the limit", "200", "", nil},
		{"beyond it, a field", "431", "head_too_large", fieldH3("x-more-1", "1", false)},
		{"beyond it, a frame that would end the connection", "431", "head_too_large", frameH3(0x8, []byte{0})},
	} {
		c := e.dialH3(cert)
		block := append(head[:len(head):len(head)], tt.more...)
		a, err := c.read(c.open(append(frameH3(0x1, block), frameH3(0x0, []byte("hello"))...), true))
		if err != nil || a.status != tt.status || a.fields["x-sluice-error"] != tt.cause {
			t.Errorf("%s: %s %q, %v, want %s %q", tt.name, a.status, a.fields["x-sluice-error"], err, tt.status, tt.cause)
		}
		if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
			t.Errorf("%s: the next request: %v, %v", tt.name, a.status, err)
		}
	}
}

// fieldH3 makes a field of a section, its name literal and its value as it is, or in the code of Huffman.
func fieldH3(name, value string, huffman bool) []byte {
	const literalName, coded = 0x20, 0x80
	b := append(proxy.AppendInteger(nil, literalName, 3, uint64(len(name))), name...)
	if huffman {
		return hpack.AppendHuffmanString(proxy.AppendInteger(b, coded, 7, hpack.HuffmanEncodeLength(value)), value)
	}
	return append(proxy.AppendInteger(b, 0, 7, uint64(len(value))), value...)
}
