package cache

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults of Options.
const (
	DefaultMaxHosts        = 1_000_000
	DefaultMaxDerivedHosts = 250_000
	DefaultMaxUnknownHosts = 100_000
	DefaultMaxBackends     = 1024
	DefaultMaxCertificates = 100_000
	DefaultMaxMissRate     = 2000
	DefaultMaxAge          = 600 * time.Second
	DefaultNegativeTTL     = 5 * time.Second
	DefaultTornWriteGrace  = 200 * time.Millisecond
	DefaultDeadTTL         = 30 * time.Second
)

// Options configures a Cache. The zero value of each field stands for its default.
type Options struct {
	// Driver is one store, or a read replica and a write master:
	// "redis://[:password@][host][:port][/db][#prefix]" with "redis:" as the short form of
	// 127.0.0.1:6379, "redis+sentinel://[:password@]host,host/master[/db][#prefix]",
	// "redis+cluster://[:password@]host,host[#prefix]", the same with "rediss" over TLS and
	// "?ca=file&cert=file&key=file", "unix:/path[?db=n][#prefix]", or "file:/abs.json" and
	// "file:rel.json". The prefix of the first one counts. Default "redis:".
	Driver []string

	// MaxHosts bounds the names with a list of their own, wildcards included.
	MaxHosts int
	// MaxDerivedHosts bounds the names that a wildcard or the catch-all answers for.
	MaxDerivedHosts int
	// MaxUnknownHosts bounds the remembered names that nothing answers for.
	MaxUnknownHosts int
	// MaxBackends bounds a frontend's backends; what a list has beyond is cut, logged and counted.
	MaxBackends int
	// MaxCertificates bounds the certificates that are kept of those in the store.
	MaxCertificates int
	// MaxMissRate bounds the lookups per second that come to nothing; negative means no limit, for
	// a client's own rate too.
	MaxMissRate int

	// MaxAge is the age, with a tenth of jitter, at which an entry in use is read again in the
	// background although no push announced a change.
	MaxAge time.Duration
	// NegativeTTL is how long a name without any list is remembered as such.
	NegativeTTL time.Duration
	// MaxStale bounds how long known routes are served after the store went away; 0 means no limit.
	MaxStale time.Duration
	// TornWriteGrace is how long a list stays in use after a push that emptied it, because writers
	// replace lists in several steps. Negative means none.
	TornWriteGrace time.Duration
	// DeadTTL is the life of a mark: Hipache's deadBackendTTL.
	DeadTTL time.Duration

	// Policy is that of all hosts, in the form of the hashes of the store, see PolicyKeys. A host's own
	// policy overrides single fields of it.
	Policy map[string]string

	// Snapshot is a file to keep routes and policies in, for a start without the store; empty means none. It
	// is written when something changed, at most every 2 s, with at most a twentieth of one core's
	// time and 2 MiB per second in the long run, and at Close. A file that is not a snapshot is
	// never overwritten. It has no meaning with a routes file.
	Snapshot string
	// SnapshotKeys has the snapshot hold the certificates in use with their keys. A file whose mode is
	// wider than 0600, or that belongs to another user, is then not loaded.
	SnapshotKeys bool

	// Own tells whether an address is a listener of this process; such a backend would loop and is
	// refused when a list is parsed. nil means that no address is. It must be safe for concurrent
	// use and must not block.
	Own func(address string) bool
	// Log receives operational lines; nil discards them.
	Log *slog.Logger
	// Metrics receives the package's metrics; nil keeps them to the Cache.
	Metrics *metrics.Set
}

// withDefaults returns o with each zero field filled in.
func (o Options) withDefaults() Options {
	if len(o.Driver) == 0 {
		o.Driver = []string{"redis:"}
	}
	setDefault(&o.MaxHosts, DefaultMaxHosts)
	setDefault(&o.MaxDerivedHosts, DefaultMaxDerivedHosts)
	setDefault(&o.MaxUnknownHosts, DefaultMaxUnknownHosts)
	setDefault(&o.MaxBackends, DefaultMaxBackends)
	setDefault(&o.MaxCertificates, DefaultMaxCertificates)
	setDefault(&o.MaxMissRate, DefaultMaxMissRate)
	setDefault(&o.MaxAge, DefaultMaxAge)
	setDefault(&o.NegativeTTL, DefaultNegativeTTL)
	setDefault(&o.TornWriteGrace, DefaultTornWriteGrace)
	setDefault(&o.DeadTTL, DefaultDeadTTL)
	if o.Own == nil {
		o.Own = func(string) bool { return false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	return o
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// check reports the first field that makes no sense.
func (o *Options) check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxHosts", int64(o.MaxHosts)},
		{"MaxDerivedHosts", int64(o.MaxDerivedHosts)},
		{"MaxUnknownHosts", int64(o.MaxUnknownHosts)},
		{"MaxBackends", int64(o.MaxBackends)},
		{"MaxCertificates", int64(o.MaxCertificates)},
		{"MaxAge", int64(o.MaxAge)},
		{"NegativeTTL", int64(o.NegativeTTL)},
		{"MaxStale", int64(o.MaxStale)},
		{"DeadTTL", int64(o.DeadTTL)},
	} {
		if f.value < 0 {
			return fmt.Errorf("check cache options: %s is %d: give 0 for the default or a positive value", f.name, f.value)
		}
	}
	if err := CheckPolicy(o.Policy); err != nil {
		return fmt.Errorf("check cache options: Policy: %w", err)
	}
	return nil
}
