package backendtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"time"
)

// Certificate is a self-signed certificate with its key, good for an hour.
type Certificate struct {
	TLS     tls.Certificate
	CertPEM []byte
	KeyPEM  []byte // PKCS 8, not encrypted
	Roots   *x509.CertPool
}

// SelfSigned makes a certificate for names and 127.0.0.1. It may act as its own authority.
func SelfSigned(t T, names ...string) Certificate {
	t.Helper()
	c, err := selfSigned(names)
	if err != nil {
		t.Fatalf("backendtest: make certificate: %v", err)
	}
	return c
}

func selfSigned(names []string) (Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: first(names)},
		DNSNames:              names,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, err
	}
	c := Certificate{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		Roots:   x509.NewCertPool(),
	}
	c.Roots.AppendCertsFromPEM(c.CertPEM)
	c.TLS, err = tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	return c, err
}

// HTTPS serves handler over TLS 1.2 and 1.3 with certificate, HTTP/1.1 only.
func HTTPS(t T, certificate Certificate, handler http.Handler) *Backend {
	t.Helper()
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate.TLS},
		NextProtos:   []string{"http/1.1"},
		MinVersion:   tls.VersionTLS12,
	}
	return start(t, "https", func(b *Backend, ln net.Listener) {
		b.serveHTTP(tls.NewListener(ln, config), handler)
	})
}
