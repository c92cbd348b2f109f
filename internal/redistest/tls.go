package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLS is an authority with a certificate for 127.0.0.1 and one for a client, as files, good for an
// hour.
type TLS struct {
	CA                    string
	ServerCert, ServerKey string
	ClientCert, ClientKey string
}

// StartTLS runs a server that takes TLS, from clients with a certificate, on a port of its own. The
// other port stays open for the test.
func StartTLS(t testing.TB, args ...string) (*Server, *TLS) {
	t.Helper()
	files := NewTLS(t)
	return Start(t, files.Args(args...)...), files
}

// Args are the settings of a server with these certificates, and further ones.
func (f *TLS) Args(more ...string) []string {
	return append([]string{
		"--tls-ca-cert-file", f.CA, "--tls-cert-file", f.ServerCert, "--tls-key-file", f.ServerKey,
	}, more...)
}

// Query names the files of a client in a driver URL.
func (f *TLS) Query() string {
	return "?ca=" + f.CA + "&cert=" + f.ClientCert + "&key=" + f.ClientKey
}

// NewTLS makes an authority and its certificates in a directory of the test.
func NewTLS(t testing.TB) *TLS {
	t.Helper()
	m := maker{t: t, dir: t.TempDir()}
	m.authority = &x509.Certificate{
		Subject: pkix.Name{CommonName: "redistest authority"}, KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	f := &TLS{}
	f.CA, _ = m.write("ca", m.authority)
	f.ServerCert, f.ServerKey = m.write("server", &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	f.ClientCert, f.ClientKey = m.write("client", &x509.Certificate{
		Subject: pkix.Name{CommonName: "client"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return f
}

// maker makes certificates that one authority signs; the first one is the authority's.
type maker struct {
	t         testing.TB
	dir       string
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
	made      int64
}

// write makes a certificate and returns the files of it and of its key.
func (m *maker) write(name string, template *x509.Certificate) (certFile, keyFile string) {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatalf("redistest: make key: %v", err)
	}
	if m.key == nil {
		m.key = key
	}
	m.made++
	template.SerialNumber = big.NewInt(m.made)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, m.authority, &key.PublicKey, m.key)
	if err != nil {
		m.t.Fatalf("redistest: make certificate: %v", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatalf("redistest: encode key: %v", err)
	}
	return m.pem(name+".crt", "CERTIFICATE", der), m.pem(name+".key", "PRIVATE KEY", keyDER)
}

func (m *maker) pem(name, kind string, der []byte) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		m.t.Fatalf("redistest: write %s: %v", name, err)
	}
	return path
}
