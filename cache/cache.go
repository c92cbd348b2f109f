package cache

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options configures a Cache. The zero value of each field stands for its documented default.
type Options struct {
	Driver                                                  []string
	MaxHosts, MaxDerivedHosts, MaxUnknownHosts, MaxBackends int
	MaxAge, NegativeTTL, MaxStale, TornWriteGrace, DeadTTL  time.Duration
	MaxMissRate                                             int
	Own                                                     func(address string) bool
	Log                                                     *slog.Logger
	Metrics                                                 *metrics.Set
}

// Cache resolves host names to frontends.
type Cache struct{ o Options }

// Route is the answer of one lookup.
type Route struct{ frontend *Frontend }

// Frontend returns what the host resolved to; it is never nil in a Route without an error.
func (r *Route) Frontend() *Frontend { return r.frontend }

// Alive tells whether backend i is not dead as of the lookup.
func (r *Route) Alive(i int) bool { return r.frontend.Backends[i].Err == nil }

// New checks the options and returns a cache that does nothing until Start.
func New(o Options) (*Cache, error) { return &Cache{o: o}, nil }

// Start begins the background work and returns at once.
func (c *Cache) Start(ctx context.Context) error { return ctx.Err() }

// Close ends the background work.
func (c *Cache) Close() error { return nil }

// Lookup resolves a normalised host.
func (c *Cache) Lookup(host []byte, client netip.Addr) (Route, error) {
	return Route{}, ErrUnavailable
}

// LookupExact resolves host:port without wildcards.
func (c *Cache) LookupExact(hostport []byte, client netip.Addr) (Route, error) {
	return Route{}, ErrUnavailable
}

// MarkDead reports that backend i of r failed.
func (c *Cache) MarkDead(r *Route, i int) {}

// CheckerAlive tells whether an external active checker runs.
func (c *Cache) CheckerAlive() bool { return false }

// Ready tells whether the store answered once.
func (c *Cache) Ready() bool { return false }

// Ping asks the store for one sign of life.
func (c *Cache) Ping(ctx context.Context) error { return ErrUnavailable }

// ValidateDriver checks one element of Options.Driver.
func ValidateDriver(driver string) error { return nil }
