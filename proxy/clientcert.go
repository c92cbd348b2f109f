package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
)

// clientCertFields returns the certFields of an accepted connection.
func (a *acceptedConn) clientCertFields() []byte {
	t, ok := a.rw.(*tls.Conn)
	if !ok || a.bind.tls.ClientAuth == tls.NoClientCert {
		return nil
	}
	state := t.ConnectionState()
	return certFields(a.bind.tls, &state)
}

// certFields returns the field lines that tell a backend which certificate the client of a connection has proved to
// hold, an empty slice if it has none, and nil if the listener does not ask. They are made once per connection.
// Client-Cert is that of RFC 9440.
func certFields(listener *tls.Config, state *tls.ConnectionState) []byte {
	if listener.ClientAuth == tls.NoClientCert {
		return nil
	}
	if len(state.VerifiedChains) == 0 {
		return []byte{}
	}
	return appendClientCert(nil, state.VerifiedChains[0][0])
}

func appendClientCert(dst []byte, c *x509.Certificate) []byte {
	dst = append(dst, "Client-Cert: :"...)
	dst = base64.StdEncoding.AppendEncode(dst, c.Raw)
	dst = append(dst, ":\r\nX-Client-Cert-Subject: "...)
	dst = appendPrintable(dst, c.Subject.String())
	dst = append(dst, "\r\nX-Client-Cert-Fingerprint: "...)
	sum := sha256.Sum256(c.Raw)
	dst = hex.AppendEncode(dst, sum[:])
	return append(dst, "\r\n"...)
}

// appendPrintable appends text with each byte that has no place in a field as a backslash and two hexadecimal digits,
// as RFC 4514 §2.4 writes them.
func appendPrintable(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c < 0x7f {
			dst = append(dst, c)
		} else {
			dst = append(dst, '\\')
			dst = hex.AppendEncode(dst, []byte{c})
		}
	}
	return dst
}

// believesClientCert reports whether fields about a certificate may come from the client: if a load balancer asked for
// it in our place. That must be a peer that the operator named, as a private address alone does not make one.
func (x *exchange) believesClientCert() bool {
	return x.peer.cert == nil && x.cfg.vouchedFor(x.peer.addr)
}
