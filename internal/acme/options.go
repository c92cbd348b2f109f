package acme

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The kinds of challenges that can be answered.
const (
	HTTP01    = "http-01"     // RFC 8555 §8.3
	TLSALPN01 = "tls-alpn-01" // RFC 8737
)

// Options configures an Issuer. Directory, Challenges, Store and Routed are required.
type Options struct {
	// Directory is the URL where the authority says what it offers. Ordering from it accepts its terms.
	Directory string
	// Email is whom the authority writes to; empty for nobody.
	Email string
	// Roots verify the authority's own server; nil means the system's.
	Roots *x509.CertPool
	// Challenges are the kinds to answer, the preferred one first. The next one is tried when one
	// failed.
	Challenges []string
	// Profile names the kind of certificate, of those that the directory lists; empty for the usual.
	Profile string
	// EABKeyID and EABKey, in base64url, bind the account to one that exists at the authority
	// otherwise (RFC 8555 §7.3.4). Both or neither.
	EABKeyID, EABKey string

	// Wait is how long Obtain waits at most; 0 does not wait at all.
	Wait time.Duration
	// MaxInFlight bounds the names that this process works on at once, MaxQueued those that wait for
	// that. Both are 1 or more.
	MaxInFlight, MaxQueued int
	// MaxPerHour bounds the orders of all edges together within an hour, MaxPerDomain those for new
	// certificates of one registered domain within DomainPeriod. 0 means no limit.
	MaxPerHour, MaxPerDomain int
	DomainPeriod             time.Duration

	// Store is shared with the other edges.
	Store Store
	// Routed tells whether a name has a route of its own; client is the peer that asks, invalid if
	// nobody does. An error means that it is not known at present.
	Routed func(name string, client netip.Addr) (bool, error)

	// Log receives operational lines; nil discards them.
	Log *slog.Logger
	// Metrics receives the package's metrics; nil keeps them to the Issuer.
	Metrics *metrics.Set
	// UserAgent names the program to the authority.
	UserAgent string
}

// check reports what cannot be used.
func (o *Options) check() error {
	switch {
	case !strings.HasPrefix(o.Directory, "https://"):
		return fmt.Errorf("acme: directory %q: must be an https URL", o.Directory)
	case len(o.Challenges) == 0:
		return errors.New("acme: no kind of challenge is given")
	case o.Store == nil || o.Routed == nil:
		return errors.New("acme: a store and a table of routes are required")
	case o.MaxInFlight < 1 || o.MaxQueued < 1:
		return errors.New("acme: room for one order and one name in the queue is required")
	case (o.EABKeyID == "") != (o.EABKey == ""):
		return errors.New("acme: an external account needs both its key id and its key")
	}
	for _, kind := range o.Challenges {
		if !slices.Contains([]string{HTTP01, TLSALPN01}, kind) {
			return fmt.Errorf("acme: challenge %q: must be %s or %s", kind, HTTP01, TLSALPN01)
		}
	}
	if _, err := o.eabKey(); err != nil {
		return errors.New("acme: the key of the external account must be base64url") // never the key itself
	}
	return nil
}

// eabKey decodes the key of the external account, with or without padding.
func (o *Options) eabKey() ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(o.EABKey, "="))
}
