package cache

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sluice/internal/certs"
)

// The fields of "tls:<name>" (planb: tls/redis.go).
const (
	certificateField = "certificate"
	keyField         = "key"
	// acmeField marks certificates that were obtained on demand; see ownerScript.
	acmeField = "acme"
)

// Certificate returns the certificate that the store holds for a server name, in lower case and
// without a final dot: that of exactly this name, else that of "*" in place of its first label. One
// whose dates do not hold counts only where no other is found. It returns nil if there is none that
// can be used, or none that is known while the store is away.
//
// What is in memory answers at once. Else it waits for the store: at most 50 ms if the name is known
// but must be read again, at most 300 ms if it is not. client is the peer's address; names that come
// to nothing are limited per client network. The certificate has its Leaf and is shared: it must not
// be changed.
func (c *Cache) Certificate(name string, client netip.Addr) *tls.Certificate {
	if !isServerName(name) {
		return nil
	}
	names := []string{name, name}[:1]
	if i := strings.IndexByte(name, '.'); i > 0 {
		names = append(names, "*"+name[i:])
	}
	now := time.Now()
	var spare *tls.Certificate
	passes := func(name string, k *certificate) bool {
		cert, err := k.get()
		if err == nil {
			err = certs.CheckDates(cert.Leaf, now)
		}
		if err == nil {
			return true
		}
		c.noteHash(certificateFamily, name, err)
		if spare == nil && errors.Is(err, certs.ErrDates) {
			spare = cert
		}
		return false
	}
	var read bool
	mayRead := func() bool {
		read = c.certLimit.allows(client, c.now())
		return read
	}
	h, err := c.certificates.first(names, mayRead, passes)
	switch {
	case h != nil:
		return h.content.parsed
	case errors.Is(err, ErrLookupLimited):
		c.m.certsLimited.Inc()
	case err != nil:
		c.m.certsUnavailable.Inc()
	case spare == nil && read: // What memory answers costs the store nothing.
		c.certLimit.charge(client, c.now())
	}
	return spare
}

// isServerName tells whether name can be that of a host. What a client sends else never reaches the
// store or a log.
func isServerName(name string) bool {
	if name == "" || len(name) > maxHostBytes {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '.', b == '-', b == '_':
		default:
			return false
		}
	}
	return true
}

func isCertificateField(name string) bool {
	return name == certificateField || name == keyField || name == acmeField
}

// parseCertificate makes a certificate of a hash.
func (c *Cache) parseCertificate(name string, fields map[string]string) (*certificate, error) {
	for field := range fields {
		if !isCertificateField(field) {
			c.noteHash(certificateFamily, name, unknownField(field))
		}
	}
	cert, err := certs.Parse([]byte(fields[certificateField]), []byte(fields[keyField]))
	if err != nil {
		return nil, err
	}
	return &certificate{parsed: cert}, certs.Covers(cert, name)
}

// unknownField is a field that means nothing in its family.
type unknownField string

// maxFieldName is the longest name of a field that is repeated. What is longer may be a key that
// somebody stored in the place of one.
const maxFieldName = 40

func (f unknownField) Error() string {
	if len(f) > maxFieldName {
		return fmt.Sprintf("a field with %d bytes of text in the place of a name is unknown and ignored", len(f))
	}
	return fmt.Sprintf("the field %q is unknown and ignored", string(f))
}

// noteHash counts a mistake in a hash of the store, and logs it unless that was done lately. err
// never repeats a value.
func (c *Cache) noteHash(f family, name string, err error) {
	cause := hashCause(err)
	c.m.invalidHash(f, cause)
	key := familyKeys[f] + name
	text := err.Error()
	if c.notes.first(key+" "+text, c.now()) {
		c.log.Warn("store entry is invalid", "key", key, "kind", cause, "cause", text)
	}
}

// hashCause returns the metric label of a mistake.
func hashCause(err error) string {
	var field unknownField
	switch {
	case errors.As(err, &field):
		return "unknown_field"
	case errors.Is(err, errWrongType):
		return "wrong_type"
	case errors.Is(err, errManyFields), errors.Is(err, errLargeHash):
		return "too_large"
	case errors.Is(err, certs.ErrDates):
		return "dates"
	case errors.Is(err, certs.ErrMismatch):
		return "mismatch"
	case errors.Is(err, certs.ErrNotCovered):
		return "not_covered"
	default:
		return "unusable"
	}
}
