package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"
)

// loadPair reads certificate, chain and key, and checks that they belong together.
func loadPair(o Options) (*stapled, error) {
	if o.Cert == "" || o.Key == "" {
		return nil, errors.New("load certificate: https needs both cert and key, or neither; name a PEM file for each")
	}
	chain, err := readCertificates(o.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readKey(o.Key, o.Passphrase)
	if err != nil {
		return nil, err
	}
	if err := match(chain, key, o); err != nil {
		return nil, err
	}
	warnDates(chain[0], o)
	if chain, err = extend(chain, o.CA, o.Log); err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return staple(cert, o.Cert+".ocsp", o.Log), nil
}

// readCertificates returns the certificates in a PEM file, at least one, in its order.
func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	chain, err := parseChain(text)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s: %w", path, err)
	}
	return chain, nil
}

// publicKey is what all public keys of the standard library can do.
type publicKey interface {
	Equal(other crypto.PublicKey) bool
}

// belongs tells whether key is that of a certificate.
func belongs(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := c.PublicKey.(publicKey)
	return ok && public.Equal(key.Public())
}

// match reports a key that does not belong to the first certificate.
func match(chain []*x509.Certificate, key crypto.Signer, o Options) error {
	switch at := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return belongs(c, key) }); at {
	case 0:
		return nil
	case -1:
		return fmt.Errorf("load key %s: it does not match the certificate %s (%s); "+
			"use the key that the certificate was made for", o.Key, o.Cert, chain[0].Subject)
	default:
		return fmt.Errorf("load certificate %s: the key %s matches certificate %d in it, not the first; "+
			"put the server's certificate first and the one that signed it next", o.Cert, o.Key, at+1)
	}
}

// warnDates says so when clients will refuse the certificate because of its dates.
func warnDates(c *x509.Certificate, o Options) {
	switch now := time.Now(); {
	case now.After(c.NotAfter):
		o.Log.Warn("certificate has expired: clients will refuse it; renew it and reload",
			"file", o.Cert, "subject", c.Subject.String(), "expired", c.NotAfter)
	case now.Before(c.NotBefore):
		o.Log.Warn("certificate is not valid yet: clients will refuse it; check this machine's clock",
			"file", o.Cert, "subject", c.Subject.String(), "from", c.NotBefore)
	}
}

// extra is a certificate that may continue a chain, and where it comes from.
type extra struct {
	*x509.Certificate
	path string
}

// extend appends those certificates of the files that continue the chain, each signed by the next.
// A root ends it and is not sent: clients have theirs, or do not trust ours.
//
// Hipache: lib/config/config.js hands "ca" to node, where OpenSSL completes the chain from it.
func extend(chain []*x509.Certificate, paths []string, log *slog.Logger) ([]*x509.Certificate, error) {
	var extras []extra
	for _, path := range paths {
		certs, err := readCertificates(path)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			extras = append(extras, extra{c, path})
		}
	}
	for {
		last := chain[len(chain)-1]
		extras = slices.DeleteFunc(extras, func(e extra) bool { return slices.ContainsFunc(chain, e.Equal) })
		next := slices.IndexFunc(extras, func(e extra) bool { return !isRoot(e.Certificate) && signed(e.Certificate, last) })
		if next < 0 {
			break
		}
		chain = append(chain, extras[next].Certificate)
	}
	for _, e := range extras {
		if last := chain[len(chain)-1]; !isRoot(e.Certificate) || !signed(e.Certificate, last) {
			log.Warn("certificate does not continue the chain and is not sent", "file", e.path, "subject", e.Subject.String())
		}
	}
	return chain, nil
}

// signed says whether issuer signed c.
func signed(issuer, c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil
}

// isRoot says whether c names itself as its issuer.
func isRoot(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }
