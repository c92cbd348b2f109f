package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"sluice/internal/backendtest"
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
