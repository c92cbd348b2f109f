package config

import (
	"net/netip"
	"time"
)

// Config is the effective configuration: defaults, then the file, then the environment, then
// flags. The table behind [Keys] says for each field its unit, range and what zero means.
type Config struct {
	Server Server
	HTTP   HTTP
	HTTPS  HTTPS
	TLS    TLS
	ACME   ACME
	Admin  Admin
	Cache  Cache
	Policy Policy

	// Driver lists the stores of the routes: one URL, or a read replica and the master.
	Driver []string
	// User and Group are names or decimal ids to drop to after binding. An empty Group means
	// the primary group of User.
	User  string
	Group string

	// File is the path of the configuration file that was read; empty when there was none.
	File string

	origins map[string]Origin
}

// Server holds the keys of the "server" object. Durations of zero switch a limit off unless the
// table says otherwise.
type Server struct {
	Debug            bool
	MaxSockets       int
	Threads          int
	HTTPKeepAlive    bool
	TCPTimeout       time.Duration
	DeadBackendTTL   time.Duration
	DeadBackendOn500 bool
	RetryOnError     int
	AccessLog        string
	AccessLogFormat  string
	StaticDir        string

	TrustedProxies  []netip.Prefix
	DebugHeaders    string
	Compat          string
	RequestIDHeader string
	Balance         string
	Upgrades        []string
	BackendCA       string
	Via             string

	ConnectTimeout         time.Duration
	ResponseTimeout        time.Duration
	HeaderTimeout          time.Duration
	IdleTimeout            time.Duration
	BodyIdleTimeout        time.Duration
	BackendBodyIdleTimeout time.Duration
	TunnelIdleTimeout      time.Duration
	HalfCloseGrace         time.Duration
	BackendIdleTimeout     time.Duration
	RetryTimeout           time.Duration
	DrainTimeout           time.Duration
	DrainDelay             time.Duration
	MinBodyRate            int

	MaxHeaderBytes        int
	MaxHeaderFields       int
	MaxBodyBytes          int64
	DeferAccept           bool
	MaxConnections        int
	MaxConnectionsPerIP   int
	MaxBackendConnections int
	MaxTunnels            int
	MaxStreams            int
}

// HTTP holds the keys of the "http" object: where plain HTTP is accepted.
type HTTP struct {
	// Bind is complete after Load: each entry has its port.
	Bind []Bind
	Port int
}

// HTTPS holds the keys of the "https" object. Key, Cert and the rest are what bind entries
// inherit unless they name their own.
type HTTPS struct {
	// Bind is complete after Load: each entry has its port, key, certificate and the rest.
	Bind []Bind
	Port int
	// PublicPort is where clients reach Bind, for redirects; 0 finds out for each request.
	PublicPort int
	Key        string
	Cert       string
	Passphrase string
	CA         []string
	Ciphers    string
	// SecureProtocol is Node's name of a TLS method; empty means what the preset says.
	SecureProtocol string
	HTTP2          bool
	HTTP3          bool
	// AltSvc is "auto", "none" or what answers over TLS say in that field.
	AltSvc string
	// ClientCA names the authorities that clients' certificates may come from; empty asks for none.
	ClientCA []string
}

// TLS holds the keys of the "tls" object, which are about all https listeners.
type TLS struct {
	Preset                 string
	Directory              string
	MaxCertificates        int
	MaxHandshakesPerSecond int
}

// ACME holds the keys of the "acme" object: certificates that are obtained on demand.
type ACME struct {
	OnDemand         bool
	Directory        string
	Email            string
	CA               string
	Challenges       []string
	Profile          string
	EABKeyID, EABKey string
	Wait             time.Duration
	MaxInFlight      int
	MaxQueued        int
	MaxPerHour       int
	MaxPerDomain     int
	DomainPeriod     time.Duration
}

// Policy holds the keys of the "policy" object: what holds for hosts without a policy of their own.
type Policy struct {
	RedirectHTTPS bool
	RedirectCode  string
	HSTS          string
}

// Admin holds the keys of the "admin" object. Port 0 means no admin listener.
type Admin struct {
	Bind string
	Port int
}

// Cache holds the keys of the "cache" object: the bounds of the table of routes.
type Cache struct {
	MaxHosts        int
	MaxDerivedHosts int
	MaxUnknownHosts int
	MaxBackends     int
	MaxAge          time.Duration
	NegativeTTL     time.Duration
	MaxMissRate     int
	MaxStale        time.Duration
	TornWriteGrace  time.Duration
	Snapshot        string
	SnapshotKeys    bool
}

// IsSet reports whether the key at path was given by the file, the environment or a flag, rather
// than left at its default. It is false for a path that does not exist.
func (c *Config) IsSet(path string) bool {
	o, ok := c.origins[path]
	return ok && o.Source != FromDefault && o.Source != FromHipache
}

// Origin says where the value of the key at path came from.
func (c *Config) Origin(path string) Origin {
	return c.origins[path]
}
