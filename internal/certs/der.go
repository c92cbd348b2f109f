package certs

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// DER returns what a certificate of Parse is made of: its chain, the server's certificate first, and
// its key in PKCS #8. The chain is cert's own and must not be changed; the key is a copy.
func DER(cert *tls.Certificate) (chain [][]byte, key []byte, err error) {
	if key, err = x509.MarshalPKCS8PrivateKey(cert.PrivateKey); err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return cert.Certificate, key, nil
}

// Restore makes a certificate of what DER returned. It keeps chain, not key, and replaces issuers in it
// by equal ones. The result has its Leaf.
func Restore(chain [][]byte, key []byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	private, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read key: it cannot be parsed: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok || !belongs(leaf, signer) {
		return nil, ErrMismatch
	}
	shareIssuers(chain)
	return &tls.Certificate{Certificate: chain, PrivateKey: signer, Leaf: leaf}, nil
}
