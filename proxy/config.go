package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Balance names a policy for choosing among the live backends of a frontend.
type Balance string

// The balancing policies. All of them honour weights.
const (
	BalanceRandom     Balance = "random"     // uniform random, the default (Hipache: lib/cache.js)
	BalanceRoundRobin Balance = "roundrobin" // one after another, per frontend (planb)
	BalanceLeastConn  Balance = "leastconn"  // fewest requests in flight from this process
	BalanceP2C        Balance = "p2c"        // the less loaded of two random ones
)

// Compat selects whose answers are given where Hipache and planb differ.
type Compat string

// The compatibility modes.
const (
	CompatHipache Compat = "hipache"
	CompatPlanb   Compat = "planb"
)

// DebugHeaders says which clients may ask for X-Debug-* answer headers.
type DebugHeaders string

// Who gets debug headers.
const (
	DebugTrusted DebugHeaders = "trusted" // peers in TrustedProxies, and loopback
	DebugAll     DebugHeaders = "all"
	DebugNone    DebugHeaders = "none"
)

// Config is what an operator can set of the data plane. DefaultConfig gives every field its documented default; in a
// Config a zero duration or limit means "no limit" unless the field says otherwise. A Config is not changed after it
// was given to New or Reload.
type Config struct {
	Version string // sluice's version, for debug headers

	TrustedProxies []netip.Prefix // peers whose forwarding header fields are believed; empty = nobody
	// TrustedProxiesSet says that the operator chose TrustedProxies. Debug headers and the PROXY protocol are not for
	// whoever happens to come from a private address: while it is false they are for loopback only.
	TrustedProxiesSet bool
	DebugHeaders      DebugHeaders
	Compat            Compat
	RequestIDHeader   string // a UUID is set in this field if the client sent none; "" = off
	AltSvc            string // Alt-Svc of answers over TLS: AltSvcAuto, AltSvcNone, or a value as in RFC 7838
	Via               string // pseudonym for a Via field in both directions; "" = none
	Upgrades          []string

	Balance          Balance
	RetryOnError     int           // attempts after the first when a connection can't be made; 0 = none
	RetryTimeout     time.Duration // no attempt starts later than this after the first one
	DeadBackendOn500 bool          // a 500 marks a backend while an active checker lives

	ConnectTimeout         time.Duration // TCP connect and TLS handshake with a backend
	ResponseTimeout        time.Duration // from the request sent to the answer's head
	HeaderTimeout          time.Duration // from a request's first byte (or accept) to the end of its head
	IdleTimeout            time.Duration // a keep-alive connection between two requests
	BodyIdleTimeout        time.Duration // a client's upload without a byte of progress
	BackendBodyIdleTimeout time.Duration // a backend's answer without a byte of progress
	TunnelIdleTimeout      time.Duration // a tunnel without a byte in either direction
	HalfCloseGrace         time.Duration // after a client's FIN without an answer's first byte
	BackendIdleTimeout     time.Duration // an unused backend connection is closed after it
	DrainTimeout           time.Duration // Shutdown waits this long for exchanges and tunnels
	MinBodyRate            int           // bytes/s over 30 s, of an upload and of a client that has bytes pending

	MaxHeaderBytes  int   // request line and fields; over it 431 (or 414)
	MaxHeaderFields int   // over it 431
	MaxBodyBytes    int64 // request body; over it 413
	// DeferAccept leaves a new connection to the kernel until its client has sent something, a second at most. Of TCP
	// listeners only, and heeded by Serve, not by Reload.
	DeferAccept         bool
	MaxConnections      int // client connections of the process
	MaxConnectionsPerIP int
	// HTTPSPort is where https is listened on, for redirects to it; 0 where it is not. PublicHTTPSPort is where clients
	// reach it; 0 finds out for each request.
	HTTPSPort, PublicHTTPSPort int

	// MaxHandshakesPerSecond bounds the TLS handshakes begun; a connection beyond it is closed.
	MaxHandshakesPerSecond int
	MaxBackendConnections  int // per backend, also the length of its queue
	MaxTunnels             int
	MaxStreams             int // requests at once on one HTTP/2 connection; 1 to 1000

	BackendCA *x509.CertPool // roots for https backends; nil = the system's
}

// DefaultConfig returns the defaults of a file that sets nothing.
func DefaultConfig() Config {
	return Config{
		TrustedProxies:         DefaultTrustedProxies(),
		DebugHeaders:           DebugTrusted,
		Compat:                 CompatHipache,
		AltSvc:                 AltSvcAuto,
		Upgrades:               []string{"websocket"},
		Balance:                BalanceRandom,
		RetryOnError:           3,
		RetryTimeout:           10 * time.Second,
		DeadBackendOn500:       true,
		DeferAccept:            true,
		ConnectTimeout:         5 * time.Second,
		ResponseTimeout:        30 * time.Second,
		HeaderTimeout:          15 * time.Second,
		IdleTimeout:            60 * time.Second,
		BodyIdleTimeout:        60 * time.Second,
		BackendBodyIdleTimeout: 300 * time.Second,
		TunnelIdleTimeout:      time.Hour,
		HalfCloseGrace:         500 * time.Millisecond,
		BackendIdleTimeout:     4 * time.Second,
		DrainTimeout:           30 * time.Second,
		MinBodyRate:            100,
		MaxHeaderBytes:         16384,
		MaxHeaderFields:        100,
		MaxConnections:         16000,
		MaxBackendConnections:  1024,
		MaxTunnels:             8000,
		MaxStreams:             128,
	}
}

// DefaultTrustedProxies returns loopback, private and link-local ranges: where load balancers and platform routers
// live.
func DefaultTrustedProxies() []netip.Prefix {
	ranges := []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
		"::1/128", "fc00::/7", "fe80::/10",
	}
	list := make([]netip.Prefix, len(ranges))
	for i, s := range ranges {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}

// Lower bounds of the limits without which no request could be served.
const (
	minHeaderBytes  = 512
	maxHeaderBytes  = 1 << 20
	minHeaderFields = 4
	maxHeaderFields = 1000
	maxStreams      = 1000
)

// Validate reports every field that can't be used, joined into one error.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Balance {
	case BalanceRandom, BalanceRoundRobin, BalanceLeastConn, BalanceP2C:
	default:
		bad("balance %q: must be random, roundrobin, leastconn or p2c", c.Balance)
	}
	switch c.Compat {
	case CompatHipache, CompatPlanb:
	default:
		bad("compat %q: must be hipache or planb", c.Compat)
	}
	switch c.DebugHeaders {
	case DebugTrusted, DebugAll, DebugNone:
	default:
		bad("debugHeaders %q: must be trusted, all or none", c.DebugHeaders)
	}
	if c.MaxHeaderBytes < minHeaderBytes || c.MaxHeaderBytes > maxHeaderBytes {
		bad("maxHeaderBytes %d: must be from %d to %d", c.MaxHeaderBytes, minHeaderBytes, maxHeaderBytes)
	}
	if c.MaxHeaderFields < minHeaderFields || c.MaxHeaderFields > maxHeaderFields {
		bad("maxHeaderFields %d: must be from %d to %d", c.MaxHeaderFields, minHeaderFields, maxHeaderFields)
	}
	if c.MaxStreams < 1 || c.MaxStreams > maxStreams {
		bad("maxStreams %d: must be from 1 to %d", c.MaxStreams, maxStreams)
	}
	if c.RetryOnError < 0 {
		bad("retryOnError %d: must not be negative", c.RetryOnError)
	}
	for _, u := range c.Upgrades {
		if u == "h2c" || !isToken([]byte(u)) {
			bad("upgrades %q: must be a protocol name, and never h2c", u)
		}
	}
	if c.RequestIDHeader != "" && !isToken([]byte(c.RequestIDHeader)) {
		bad("requestIdHeader %q: must be a header field name", c.RequestIDHeader)
	}
	if !validStreamValue(c.AltSvc) {
		bad("altSvc %q: must be auto, none, clear or a field value", c.AltSvc)
	}
	if c.Via != "" && !isToken([]byte(c.Via)) {
		bad("via %q: must be a pseudonym without spaces", c.Via)
	}
	return errors.Join(errs...)
}
