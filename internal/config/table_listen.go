package config

// listenKeys: where clients reach sluice.
var listenKeys = []Key{
	{
		Path: "http.bind", Default: "127.0.0.1", Hipache: true,
		Doc:   "Addresses for plain HTTP: an IP, a list of IPs, or objects {address, port, proxyProtocol}.",
		field: func(c *Config) any { return &c.HTTP.Bind },
	},
	{
		Path: "http.port", Default: "80", Bare: "8080", Hipache: true, Rule: portNumber,
		Doc:   "Port of every http.bind entry that names none.",
		field: func(c *Config) any { return &c.HTTP.Port },
	},
	{
		Path: "https.bind", Default: "", Hipache: true,
		Doc: "Addresses for HTTPS, as http.bind; objects may also hold key, cert, passphrase, ca, clientCa and ciphers. " +
			"Empty: no HTTPS.",
		field: func(c *Config) any { return &c.HTTPS.Bind },
	},
	{
		Path: "https.port", Default: "443", Hipache: true, Rule: portNumber,
		Doc:   "Port of every https.bind entry that names none.",
		field: func(c *Config) any { return &c.HTTPS.Port },
	},
	{
		Path: "https.publicPort", Default: "0", Live: true, Rule: between(0, 65535),
		Doc: "Port that redirects to https name, where something maps ports before sluice; 0: that of the first https.bind " +
			"entry for clients that reach sluice's own ports, else 443.",
		field: func(c *Config) any { return &c.HTTPS.PublicPort },
	},
	{
		Path: "https.key", Rule: fileName,
		Doc: "File with the private key (PEM) for entries that name none; optional where names have certificates of " +
			"their own.",
		field: func(c *Config) any { return &c.HTTPS.Key },
	},
	{
		Path: "https.cert", Rule: fileName,
		Doc:   "File with the certificate and its chain (PEM) for entries that name none.",
		field: func(c *Config) any { return &c.HTTPS.Cert },
	},
	{
		Path: "https.passphrase", Secret: true,
		Doc:   "Passphrase of https.key.",
		field: func(c *Config) any { return &c.HTTPS.Passphrase },
	},
	{
		Path: "https.ca", Rule: fileName,
		Doc:   "Files with further certificates of the chain (PEM).",
		field: func(c *Config) any { return &c.HTTPS.CA },
	},
	{
		Path: "https.clientCa", Rule: fileName, Live: true,
		Doc: "Files with the authorities that clients' certificates may come from (PEM); what a client proves goes to " +
			"the backend in header fields. Empty: no certificate is asked for.",
		field: func(c *Config) any { return &c.HTTPS.ClientCA },
	},
	{
		Path: "https.ciphers", Rule: printable,
		Doc:   "OpenSSL cipher list for TLS 1.2. Empty: today's safe suites.",
		field: func(c *Config) any { return &c.HTTPS.Ciphers },
	},
	{
		Path: "https.secureProtocol", Rule: printable,
		Doc: "Name of a TLS method as in Node.js, such as TLSv1_2_method. Empty: what tls.preset says; " +
			"nothing older than TLS 1.2 can be had.",
		field: func(c *Config) any { return &c.HTTPS.SecureProtocol },
	},
	{
		Path: "https.http2", Default: "true",
		Doc:   "Offer HTTP/2 to clients of every https.bind entry.",
		field: func(c *Config) any { return &c.HTTPS.HTTP2 },
	},
	{
		Path: "https.http3", Default: "false",
		Doc: "Serve HTTP/3 on the same ports over UDP, for every https.bind entry without proxyProtocol, and announce it " +
			"as https.altSvc says.",
		field: func(c *Config) any { return &c.HTTPS.HTTP3 },
	},
	{
		Path: "https.altSvc", Default: "auto", Live: true, Rule: printable,
		Doc: "Alt-Svc of answers over TLS: auto announces HTTP/3 on the entry's own port where it is served; none says " +
			"nothing; clear takes back what clients remember; anything else is the field's value.",
		field: func(c *Config) any { return &c.HTTPS.AltSvc },
	},
	{
		Path:    "https.honorCipherOrder",
		Instead: "the Go TLS library orders suites by what both sides run fastest and safest",
		Doc:     "Prefer the server's order of cipher suites.",
	},
	{
		Path:    "https.secureOptions",
		Instead: "sluice speaks TLS 1.2 and 1.3 and needs no OpenSSL options",
		Doc:     "OpenSSL option bits.",
	},
	{
		Path: "admin.bind", Default: "127.0.0.1", Rule: printable,
		Doc:   "Address of the admin listener: /metrics, /healthz, /readyz, /debug/pprof/. Keep it private.",
		field: func(c *Config) any { return &c.Admin.Bind },
	},
	{
		Path: "admin.port", Default: "8079", Rule: between(0, 65535),
		Doc:   "Port of the admin listener; 0 switches it off.",
		field: func(c *Config) any { return &c.Admin.Port },
	},
}

var (
	fileName  = eachString("a file name without control characters", isPrintable)
	printable = eachString("text without control characters", isPrintable)
)
