package config

// tlsKeys: how https is spoken, and where certificates by name come from.
var tlsKeys = []Key{
	{
		Path: "tls.preset", Default: "intermediate", Rule: oneOf("modern", "intermediate"),
		Doc: "Versions and ciphers: modern is TLS 1.3 alone; intermediate is 1.2 with forward secrecy as well. " +
			"https.ciphers and https.secureProtocol count instead.",
		field: func(c *Config) any { return &c.TLS.Preset },
	},
	{
		Path: "tls.directory", Default: "", Rule: fileName,
		Doc:   "Folder with certificates by name, <name>.crt and <name>.key (PEM), followed as it changes; empty means none.",
		field: func(c *Config) any { return &c.TLS.Directory },
	},
	{
		Path: "tls.maxCertificates", Default: "100000", Rule: between(1, 1<<24),
		Doc:   "Certificates kept in memory of those in the store, and as many of those in tls.directory.",
		field: func(c *Config) any { return &c.TLS.MaxCertificates },
	},
	{
		Path: "tls.maxHandshakesPerSecond", Unit: "per second", Default: "0", Live: true, Rule: anyCount,
		Doc:   "TLS handshakes begun; a connection beyond it is closed; 0 sets no limit.",
		field: func(c *Config) any { return &c.TLS.MaxHandshakesPerSecond },
	},
}

// policyKeys: what holds for hosts without a policy of their own.
var policyKeys = []Key{
	{
		Path: "policy.redirectHttps", Default: "false", Live: true,
		Doc:   "Answer plain HTTP by a redirect to https, for hosts whose route: hash does not say otherwise.",
		field: func(c *Config) any { return &c.Policy.RedirectHTTPS },
	},
	{
		Path: "policy.redirectCode", Default: "308", Live: true, Rule: oneOf("308", "301"),
		Doc:   "Status of such redirects; 301 is for GET and HEAD, other methods get 308.",
		field: func(c *Config) any { return &c.Policy.RedirectCode },
	},
	{
		Path: "policy.hsts", Default: "off", Live: true, Rule: printable,
		Doc: "Strict-Transport-Security of answers over TLS, for hosts whose route: hash does not say otherwise: off, " +
			"or seconds, then includeSubDomains, then preload.",
		field: func(c *Config) any { return &c.Policy.HSTS },
	},
}
