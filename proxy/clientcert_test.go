package proxy_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
)

// What a client's certificate says reaches the backend, and nothing that a client writes itself.
func TestClientCert(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	server, ca := backendtest.SelfSigned(t, "a.example"), certtest.New(t)
	p := ca.IssueWith(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "Zoë\r\nX-Evil: 1"} }, "client.example")
	cert, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		t.Fatal(err)
	}
	asks := newEdge(t, one("a.example", backend.URL()), overTLS(server), overHTTP2, func(s *setup) {
		s.bind.TLS.ClientAuth, s.bind.TLS.ClientCAs = tls.VerifyClientCertIfGiven, ca.Pool()
	})
	silent := newEdge(t, one("a.example", backend.URL()), overTLS(server), overHTTP2, func(s *setup) {
		// Private addresses are believed by default, but nobody named them.
		s.TrustedProxies = nil
	})
	sum := sha256.Sum256(cert.Certificate[0])
	own := map[string]string{
		"Client-Cert":               ":" + base64.StdEncoding.EncodeToString(cert.Certificate[0]) + ":",
		"X-Client-Cert-Subject":     `CN=Zo\c3\ab\0d\0aX-Evil: 1`,
		"X-Client-Cert-Fingerprint": hex.EncodeToString(sum[:]),
	}
	for name, tt := range map[string]struct {
		edge *edge
		has  bool
		want map[string]string
	}{
		"has one":        {asks, true, own},
		"has none":       {asks, false, nil},
		"nobody asks":    {silent, false, nil},
		"nobody asks it": {silent, true, nil},
	} {
		for _, http2 := range []bool{false, true} {
			client := browser(tt.edge, &server, http2)
			if tt.has {
				client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://a.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"Client-Cert", "Client-Cert-Chain", "X-Client-Cert-Subject", "x_client-cert_fingerprint", "CLIENT-CERT"} {
				r.Header[field] = []string{"forged"}
			}
			a, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			var q backendtest.Echoed
			err = json.NewDecoder(a.Body).Decode(&q)
			a.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, f := range q.Fields {
				if strings.Contains(strings.ReplaceAll(strings.ToLower(f.Name), "_", "-"), "client-cert") {
					got[f.Name] += f.Value
				}
				if strings.EqualFold(f.Name, "X-Evil") {
					t.Error("a subject broke out of its field")
				}
			}
			for field, value := range tt.want {
				if got[field] != value {
					t.Errorf("%s, http2 %v: %s is %q, want %q", name, http2, field, got[field], value)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("%s, http2 %v: got %q", name, http2, got)
			}
		}
	}
}
