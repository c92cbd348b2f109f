package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What can be wrong with a certificate of a name. Errors that match none of them are about text that
// is no certificate or no key.
var (
	ErrMismatch   = errors.New("certificate and key do not belong together")
	ErrNotCovered = errors.New("the certificate does not hold the name")
	ErrDates      = errors.New("the certificate is not valid now")
)

// Parse makes a certificate of PEM text: the server's certificate, then those that signed it, and its
// key, not encrypted. The two may be the same text. The result has its Leaf, and shares the bytes of
// its issuers with others: they must not be changed. Errors repeat nothing of the key.
func Parse(chainPEM, keyPEM []byte) (*tls.Certificate, error) {
	chain, err := parseChain(chainPEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := parseKeyPEM(keyPEM, "")
	if errors.Is(err, errNoPassphrase) {
		return nil, errors.New("read key: it is encrypted; store it in the clear, as openssl pkey writes it")
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	switch at := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return belongs(c, key) }); {
	case at < 0:
		return nil, ErrMismatch
	case at > 0:
		return nil, fmt.Errorf("%w: the key is that of certificate %d; put the server's first", ErrMismatch, at+1)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	shareIssuers(cert.Certificate)
	return cert, nil
}

// Covers returns nil if cert holds a name: that of a host, or "*." and a suffix for all hosts one
// label below it. Common names do not count (RFC 9525 §2).
func Covers(cert *tls.Certificate, name string) error {
	host := name
	if suffix, ok := strings.CutPrefix(name, "*."); ok {
		if slices.ContainsFunc(cert.Leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, name) }) {
			return nil
		}
		host = "*." + suffix
	} else if cert.Leaf.VerifyHostname(host) == nil {
		return nil
	}
	return fmt.Errorf("%w %s, but %s", ErrNotCovered, host, summary(cert.Leaf.DNSNames))
}

// summary lists a few names.
func summary(names []string) string {
	const most = 5
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// CheckDates returns nil if a certificate is valid at a time.
func CheckDates(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%w: it expired at %s; renew it", ErrDates, c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w: it begins at %s; check this machine's clock", ErrDates, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

var errNoCertificate = errors.New("no PEM block CERTIFICATE in it; " +
	"convert a DER file with openssl x509 -inform der")

// parseChain returns the certificates in PEM text, at least one, in its order.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it cannot be parsed: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errNoCertificate
	}
	return chain, nil
}
