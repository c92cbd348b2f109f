package proxy_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/certs"
)

// What was asked for here is answered before anything else, over each version; all else is the backend's.
func TestChallenge_HTTP(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	cert := backendtest.SelfSigned(t, "a.example", "unrouted.example", "edge.example")
	answers := func(s *setup) {
		s.challenge = func(host, token []byte, client netip.Addr) []byte {
			if string(token) != "token" || string(host) == "b.example" || !client.IsLoopback() {
				return nil
			}
			return []byte("token.of." + string(host))
		}
	}
	plain := newEdge(t, one("a.example", backend.URL()), answers)
	secure := newEdge(t, one("a.example", backend.URL()), answers, overTLS(cert), overHTTP2)
	for scheme, client := range map[string]*http.Client{
		"http": browser(plain, nil, false), "https": browser(secure, &cert, false), "h2": browser(secure, &cert, true),
	} {
		for _, tt := range []struct {
			method, target string
			status         int
			body           string // what it begins with, "" for the backend's
		}{
			{"GET", "a.example/.well-known/acme-challenge/token", 200, "token.of.a.example"},
			{"GET", "a.example/.well-known/acme-challenge/token?x", 200, "token.of.a.example"},
			{"HEAD", "a.example/.well-known/acme-challenge/token", 200, ""},
			{"GET", "unrouted.example/.well-known/acme-challenge/token", 200, "token.of.unrouted.example"},
			{"POST", "a.example/.well-known/acme-challenge/token", 200, "{"},
			{"GET", "a.example/.well-known/acme-challenge/other", 200, "{"},
			{"GET", "a.example/.well-known/acme-challenge", 200, "{"},
			{"GET", "unrouted.example/.well-known/acme-challenge/other", 400, "No such"},
		} {
			url := "https://" + tt.target
			if scheme == "http" {
				url = "http://" + tt.target
			}
			q, err := http.NewRequestWithContext(t.Context(), tt.method, url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			a, err := client.Do(q)
			if err != nil {
				t.Errorf("%s %s %s: %v", scheme, tt.method, tt.target, err)
				continue
			}
			body, _ := io.ReadAll(a.Body)
			_ = a.Body.Close()
			ours := strings.HasPrefix(tt.body, "token.")
			if a.StatusCode != tt.status || ours && string(body) != tt.body || !ours && strings.HasPrefix(string(body), "token.") {
				t.Errorf("%s %s %s: got %d %.40q", scheme, tt.method, tt.target, a.StatusCode, body)
			}
		}
	}
}

// The handshake is all that such a connection is for (RFC 8737 §3).
func TestChallenge_TLSEndsWithTheHandshake(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	cert := backendtest.SelfSigned(t, "edge.example")
	e := newEdge(t, one("edge.example", backend.URL()), overTLS(cert), overHTTP2, func(s *setup) {
		s.bind.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != certs.ChallengeProtocol {
				return nil, nil
			}
			return &tls.Config{Certificates: []tls.Certificate{cert.TLS}, NextProtos: []string{certs.ChallengeProtocol}}, nil
		}
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := tls.Client(e.dial().Conn, &tls.Config{
			RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{certs.ChallengeProtocol}, MaxVersion: version,
		})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != certs.ChallengeProtocol {
			t.Errorf("negotiated %q", got)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: edge.example\r\n\r\n")
		if text, _ := io.ReadAll(c); len(text) > 0 {
			t.Errorf("%s: an answer: %q", tls.VersionName(version), text)
		}
	}
	e.awaitMetric("sluice_connections", 0)
}
