package acme

import (
	"context"
	"net/netip"
	"time"
)

// Store is what all edges of a fleet share. Keys are those below; a Store puts its own prefix before
// them. All methods do I/O, honour the context's deadline and are safe for concurrent use. What they
// write is read by all edges at once: a Store reads where it writes, not from a replica.
type Store interface {
	// Get returns the text under a key; ok is false if there is none.
	Get(ctx context.Context, key string) (text string, ok bool, err error)
	// Challenge is Get on behalf of a client, whose network may ask for so many that do not exist;
	// beyond that ok is false. It bounds its time itself.
	Challenge(key string, client netip.Addr) (text string, ok bool, err error)
	// Put keeps text under a key for ttl; 0 means without an end.
	Put(ctx context.Context, key, text string, ttl time.Duration) error
	// Delete removes a key, if there is one.
	Delete(ctx context.Context, key string) error

	// Lock takes a lock for an owner, or prolongs it, until ttl has passed; ok is false while another
	// has it.
	Lock(ctx context.Context, key, owner string, ttl time.Duration) (ok bool, err error)
	// Unlock gives up the owner's lock, and nobody else's.
	Unlock(ctx context.Context, key, owner string) error
	// Admit counts an event under a key unless limit of them were counted in the last window. wait is
	// how long it takes until there is room; 0 means that it was counted. The same id counts once.
	Admit(ctx context.Context, key, id string, limit int, window time.Duration) (wait time.Duration, err error)

	// Retract takes back what Admit has counted.
	Retract(ctx context.Context, key, id string) error

	// Certificate returns what the store serves under a name, which may begin with "*.", in PEM. found
	// is false if there is nothing; ours tells that PutCertificate wrote it, and nobody since.
	Certificate(ctx context.Context, name string) (certificate, key string, ours, found bool, err error)
	// PutCertificate serves a certificate under a name, unless there is one that is not ours: then it
	// returns false.
	PutCertificate(ctx context.Context, name, certificate, key string) (bool, error)

	// Schedule notes when the certificate of a name, which ends at expiry, is to be renewed.
	Schedule(ctx context.Context, name string, due, expiry time.Time) error
	// Postpone changes when that is, if the name is still noted.
	Postpone(ctx context.Context, name string, due time.Time) error
	// Forget removes a name from the schedule.
	Forget(ctx context.Context, name string) error
	// Due returns up to limit of the names that are due, the longest due first.
	Due(ctx context.Context, now time.Time, limit int) ([]string, error)
	// Outlook sums the schedule up: its names, how many are due, when the next one will be, and when
	// the first certificate ends; the times are zero where there is none.
	Outlook(ctx context.Context, now time.Time) (names, due int, next, firstExpiry time.Time, err error)
}

// The keys in the store.
const (
	accountKey   = "acme:account:"     // and a digest of the directory's URL: the account and its key
	lockKey      = "acme:lock:"        // and a name, or "account:" and that digest: who works on it
	httpKey      = "acme:http-01:"     // and a token: name and key authorization
	alpnKey      = "acme:tls-alpn-01:" // and a name: the certificate of the challenge and its key
	failedKey    = "acme:failed:"      // and a name: what went wrong, and when it may be tried again
	pauseKey     = "acme:pause"        // until when nobody orders anything
	domainKey    = "acme:pause:"       // and a registered domain: until when nobody orders for it
	ordersKey    = "acme:orders"       // the orders of the last hour
	perDomainKey = "acme:orders:"      // and a registered domain: its orders
)
