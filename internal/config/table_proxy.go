package config

// defaultTrustedProxies: loopback, private and link-local ranges, where load balancers live.
const defaultTrustedProxies = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16," +
	"::1/128,fc00::/7,fe80::/10"

// proxyKeys: how requests are forwarded and logged.
var proxyKeys = []Key{
	{
		Path: "server.debug", Default: "false", Hipache: true, Live: true,
		Doc:   "Log at debug level.",
		field: func(c *Config) any { return &c.Server.Debug },
	},
	{
		Path: "server.accessLog", Default: "/var/log/hipache/access.log", Bare: "stdout", Hipache: true, Rule: fileName,
		Doc:   "File of the access log, or \"stdout\", \"syslog\", \"none\". SIGUSR1 reopens the file.",
		field: func(c *Config) any { return &c.Server.AccessLog },
	},
	{
		Path: "server.accessLogFormat", Default: "hipache", Rule: oneOf("hipache", "json"),
		Doc:   "Format of the access log; \"json\" makes the operational log JSON as well.",
		field: func(c *Config) any { return &c.Server.AccessLogFormat },
	},
	{
		Path: "server.staticDir", Default: "", Hipache: true, Rule: fileName,
		Doc:   "Folder with error_<status>.html and error_default.html pages. Empty: built-in pages. SIGHUP reads it again.",
		field: func(c *Config) any { return &c.Server.StaticDir },
	},
	{
		Path: "server.trustedProxies", Default: defaultTrustedProxies, Live: true,
		Doc: "Networks whose X-Forwarded-* fields are believed and kept; an empty list trusts nobody. " +
			"The PROXY protocol and debug headers need a list that you set; loopback always counts for them.",
		field: func(c *Config) any { return &c.Server.TrustedProxies },
	},
	{
		Path: "server.debugHeaders", Default: "trusted", Live: true, Rule: oneOf("trusted", "all", "none"),
		Doc:   "Who gets X-Debug-* answer headers by sending X-Debug.",
		field: func(c *Config) any { return &c.Server.DebugHeaders },
	},
	{
		Path: "server.compat", Default: "hipache", Rule: oneOf("hipache", "planb"),
		Doc:   "Whose answers to give where Hipache and planb differ.",
		field: func(c *Config) any { return &c.Server.Compat },
	},
	{
		Path: "server.requestIdHeader", Default: "", Live: true, Rule: eachString("a header field name", isToken),
		Doc:   "Header that gets a fresh UUID when the client sent none. Empty: off.",
		field: func(c *Config) any { return &c.Server.RequestIDHeader },
	},
	{
		Path: "server.via", Default: "", Live: true, Rule: eachString("a name without spaces", isToken),
		Doc:   "Pseudonym for a Via field in both directions. Empty: no Via.",
		field: func(c *Config) any { return &c.Server.Via },
	},
	{
		Path: "server.upgrades", Default: "websocket", Live: true,
		Rule:  eachString("protocol names other than h2c", isUpgrade),
		Doc:   "Protocols that an Upgrade may switch to.",
		field: func(c *Config) any { return &c.Server.Upgrades },
	},
	{
		Path: "server.backendCA", Default: "", Live: true, Rule: fileName,
		Doc:   "File with the roots (PEM) for https backends. Empty: the system's.",
		field: func(c *Config) any { return &c.Server.BackendCA },
	},
	{
		Path: "server.balance", Default: "random", Live: true,
		Rule:  oneOf("random", "roundrobin", "leastconn", "p2c"),
		Doc:   "How a backend is chosen among the live ones.",
		field: func(c *Config) any { return &c.Server.Balance },
	},
	{
		Path: "server.retryOnError", Default: "3", Hipache: true, Live: true, Rule: between(0, 100),
		Doc:   "Further attempts when a backend can't be connected to; 0 makes none.",
		field: func(c *Config) any { return &c.Server.RetryOnError },
	},
	{
		Path: "server.deadBackendTTL", Unit: "s", Default: "30", Hipache: true, Rule: between(1, longest),
		Doc:   "How long a backend stays marked dead.",
		field: func(c *Config) any { return &c.Server.DeadBackendTTL },
	},
	{
		Path: "server.deadBackendOn500", Default: "true", Hipache: true, Live: true,
		Doc:   "A 500 marks its backend dead, while an active checker is alive.",
		field: func(c *Config) any { return &c.Server.DeadBackendOn500 },
	},
	{
		Path: "server.httpKeepAlive", Default: "false", Hipache: true, Live: true,
		Doc: "Kept for Hipache's sake: connections to backends are always reused. " +
			"With true, server.maxSockets counts.",
		field: func(c *Config) any { return &c.Server.HTTPKeepAlive },
	},
	{
		Path: "server.maxSockets", Default: "100", Hipache: true, Live: true, Rule: between(0, 1<<20),
		Doc: "Becomes maxBackendConnections when the file sets it together with httpKeepAlive true; " +
			"Hipache's own limit never applied otherwise. 0 = no limit of its own.",
		field: func(c *Config) any { return &c.Server.MaxSockets },
	},
	{
		Path: "server.threads", Default: "0", Rule: between(0, 4096),
		Doc: "How many threads serve requests at a time. 0: one for each core, and fewer while all cores are taken " +
			"and the work fits into fewer. The variable GOMAXPROCS sets a fixed number, too, for which this key must be 0.",
		field: func(c *Config) any { return &c.Server.Threads },
	},
	{
		Path:    "server.workers",
		Instead: "one process uses every core; see server.threads",
		Doc:     "Number of worker processes.",
	},
	{
		Path:    "server.lruCache",
		Instead: "routes are cached in memory and kept current by the store; see cache.maxHosts",
		Doc:     "Size and lifetime of Hipache's cache.",
	},
}
