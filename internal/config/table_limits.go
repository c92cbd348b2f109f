package config

// timeoutKeys: every wait has a limit.
var timeoutKeys = []Key{
	{
		Path: "server.tcpTimeout", Unit: "s", Default: "30", Hipache: true, Live: true, Rule: anySeconds,
		Doc:   "What responseTimeout is when it is not set; 0 switches it off.",
		field: func(c *Config) any { return &c.Server.TCPTimeout },
	},
	{
		Path: "server.connectTimeout", Unit: "s", Default: "5", Live: true, Rule: someSeconds,
		Doc:   "To connect to a backend, TLS handshake included.",
		field: func(c *Config) any { return &c.Server.ConnectTimeout },
	},
	{
		Path: "server.responseTimeout", Unit: "s", Default: "30", Live: true, Rule: anySeconds,
		Doc:   "From the request sent to the head of the backend's answer; without it tcpTimeout, 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.ResponseTimeout },
	},
	{
		Path: "server.headerTimeout", Unit: "s", Default: "15", Live: true, Rule: someSeconds,
		Doc:   "For a client to send a whole request head; beyond it 408.",
		field: func(c *Config) any { return &c.Server.HeaderTimeout },
	},
	{
		Path: "server.idleTimeout", Unit: "s", Default: "60", Live: true, Rule: someSeconds,
		Doc:   "A client's keep-alive connection between two requests.",
		field: func(c *Config) any { return &c.Server.IdleTimeout },
	},
	{
		Path: "server.bodyIdleTimeout", Unit: "s", Default: "60", Live: true, Rule: anySeconds,
		Doc:   "A client's upload without a byte of progress; 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.BodyIdleTimeout },
	},
	{
		Path: "server.backendBodyIdleTimeout", Unit: "s", Default: "300", Live: true, Rule: anySeconds,
		Doc:   "A backend's answer without a byte of progress; 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.BackendBodyIdleTimeout },
	},
	{
		Path: "server.tunnelIdleTimeout", Unit: "s", Default: "3600", Live: true, Rule: anySeconds,
		Doc:   "A tunnel (WebSocket) without a byte in either direction; 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.TunnelIdleTimeout },
	},
	{
		Path: "server.minBodyRate", Unit: "bytes/s", Default: "100", Live: true, Rule: anyCount,
		Doc: "Slowest upload, and slowest reading of pending bytes, over 30 s; 0 sets no limit. " +
			"A silent backend never counts.",
		field: func(c *Config) any { return &c.Server.MinBodyRate },
	},
	{
		Path: "server.halfCloseGrace", Unit: "s", Default: "0.5", Live: true, Rule: anySeconds,
		Doc:   "How long an answer may still begin after its client closed the sending side.",
		field: func(c *Config) any { return &c.Server.HalfCloseGrace },
	},
	{
		Path: "server.backendIdleTimeout", Unit: "s", Default: "4", Live: true, Rule: someSeconds,
		Doc:   "An unused connection to a backend is closed after it; keep it below the backend's own limit.",
		field: func(c *Config) any { return &c.Server.BackendIdleTimeout },
	},
	{
		Path: "server.retryTimeout", Unit: "s", Default: "10", Live: true, Rule: anySeconds,
		Doc:   "No further attempt begins later than this after the first; 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.RetryTimeout },
	},
	{
		Path: "server.drainDelay", Unit: "s", Default: "0", Live: true, Rule: anySeconds,
		Doc:   "After SIGTERM /readyz and __ping__ say 503 this long while requests are still accepted.",
		field: func(c *Config) any { return &c.Server.DrainDelay },
	},
	{
		Path: "server.drainTimeout", Unit: "s", Default: "30", Live: true, Rule: anySeconds,
		Doc:   "How long requests and tunnels may take to finish once draining began.",
		field: func(c *Config) any { return &c.Server.DrainTimeout },
	},
}

// limitKeys: every queue, pool and message has a bound.
var limitKeys = []Key{
	{
		Path: "server.maxHeaderBytes", Unit: "bytes", Default: "16384", Live: true, Rule: between(512, 1<<20),
		Doc:   "Request line and header fields; beyond it 431 or 414.",
		field: func(c *Config) any { return &c.Server.MaxHeaderBytes },
	},
	{
		Path: "server.maxHeaderFields", Default: "100", Live: true, Rule: between(4, 1000),
		Doc:   "Header fields of a request; beyond it 431.",
		field: func(c *Config) any { return &c.Server.MaxHeaderFields },
	},
	{
		Path: "server.maxBodyBytes", Unit: "bytes", Default: "0", Live: true, Rule: between(0, 1<<53),
		Doc:   "Request body; beyond it 413, 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.MaxBodyBytes },
	},
	{
		Path: "server.deferAccept", Default: "true",
		Doc: "A connection on which its client has sent nothing is left to the kernel for a second: less work for " +
			"each new connection.",
		field: func(c *Config) any { return &c.Server.DeferAccept },
	},
	{
		Path: "server.maxConnections", Default: "0", Live: true, Rule: anyCount,
		Doc:   "Client connections; 0 means 40 % of RLIMIT_NOFILE: 80 % less what backends may use.",
		field: func(c *Config) any { return &c.Server.MaxConnections },
	},
	{
		Path: "server.maxConnectionsPerIP", Default: "0", Live: true, Rule: anyCount,
		Doc:   "Client connections from one address; 0 sets no limit.",
		field: func(c *Config) any { return &c.Server.MaxConnectionsPerIP },
	},
	{
		Path: "server.maxBackendConnections", Default: "1024", Live: true, Rule: between(1, 1<<20),
		Doc:   "Connections to one backend, and the length of the queue for them; beyond both 503 backend_busy.",
		field: func(c *Config) any { return &c.Server.MaxBackendConnections },
	},
	{
		Path: "server.maxTunnels", Default: "0", Live: true, Rule: anyCount,
		Doc:   "Tunnels (WebSocket) at once; 0 means 40 % of RLIMIT_NOFILE.",
		field: func(c *Config) any { return &c.Server.MaxTunnels },
	},
	{
		Path: "server.maxStreams", Default: "128", Live: true, Rule: between(1, 1000),
		Doc:   "Requests at once on one HTTP/2 connection. Open connections keep what they were told.",
		field: func(c *Config) any { return &c.Server.MaxStreams },
	},
}
