package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"sync"
	"time"
)

// clientCertFields returns the certFields of an accepted connection.
func (a *acceptedConn) clientCertFields() []byte {
	t, ok := a.rw.(*tls.Conn)
	if !ok || !a.bind.asksClients() {
		return nil
	}
	state := t.ConnectionState()
	return certFields(a.bind, &state)
}

// Session tickets of a listener that asks for certificates live as Go's own do.
const (
	ticketKeyLife = 24 * time.Hour
	maxTicketKeys = 7 // Limit: so long is a session resumed, in lives of a key
)

// followClientCAs returns config, or a copy of it that asks clients for certificates as current says at the time. A
// session that was begun under other authorities is not resumed: nobody was asked then, or somebody else vouched.
func followClientCAs(config *tls.Config, current func() *x509.CertPool) *tls.Config {
	if config == nil || current == nil {
		return config
	}
	base := config.Clone()
	base.ClientAuth, base.ClientCAs = tls.NoClientCert, nil
	f := &caFollower{base: base, current: current}
	config = base.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if special := base.GetConfigForClient; special != nil { // for who is no client of ours
			if c, err := special(hello); c != nil || err != nil {
				return c, err
			}
		}
		return f.config(), nil
	}
	return config
}

// caFollower makes the settings of a listener for the authorities that count at the time.
type caFollower struct {
	base    *tls.Config // asks for nothing
	current func() *x509.CertPool

	mu      sync.Mutex // guards what follows
	last    *tls.Config
	keys    [][32]byte // of last's session tickets, the newest first
	renewed time.Time  // when the newest was made
}

// config returns the settings for one handshake; nil means those of the listener, which asks for nothing.
func (f *caFollower) config() *tls.Config {
	pool := f.current()
	if pool == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.last != nil && f.last.ClientCAs == pool
	if known && time.Since(f.renewed) < ticketKeyLife {
		return f.last
	}
	if !known {
		f.keys = nil
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // It never fails.
	f.keys = append([][32]byte{key}, f.keys[:min(len(f.keys), maxTicketKeys-1)]...)
	f.renewed = time.Now()
	f.last = f.base.Clone()
	f.last.ClientAuth, f.last.ClientCAs = tls.VerifyClientCertIfGiven, pool
	f.last.SetSessionTicketKeys(f.keys)
	return f.last
}

// asksClients reports whether handshakes ask clients for certificates.
func (bl *boundListener) asksClients() bool {
	if bl.clientCAs != nil {
		return bl.clientCAs() != nil
	}
	return bl.tls.ClientAuth != tls.NoClientCert
}

// certFields returns the field lines that tell a backend which certificate the client of a connection has proved to
// hold, an empty slice if it has none, and nil if the listener does not ask. They are made once per connection.
// Client-Cert is that of RFC 9440.
func certFields(listener *boundListener, state *tls.ConnectionState) []byte {
	if !listener.asksClients() {
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
