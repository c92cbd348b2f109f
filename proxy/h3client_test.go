package proxy_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

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
