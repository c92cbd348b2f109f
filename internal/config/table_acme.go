package config

import (
	"net/url"
	"strings"
)

// acmeKeys: certificates that are obtained when a client asks for a name that has none.
var acmeKeys = []Key{
	{
		Path: "acme.onDemand", Default: "false",
		Doc: "Obtain a certificate at the first handshake for a name that has a frontend of its own and no certificate. " +
			"Needs Redis.",
		field: func(c *Config) any { return &c.ACME.OnDemand },
	},
	{
		Path: "acme.directory", Default: "",
		Rule:  eachString("an https URL, such as https://acme-v02.api.letsencrypt.org/directory", isHTTPS),
		Doc:   "URL of the certificate authority's directory. To order from it is to accept its terms.",
		field: func(c *Config) any { return &c.ACME.Directory },
	},
	{
		Path: "acme.email", Default: "", Rule: eachString("an address such as tls@example.com", isEmail),
		Doc:   "Whom the authority may write to about the account; empty names nobody.",
		field: func(c *Config) any { return &c.ACME.Email },
	},
	{
		Path: "acme.ca", Default: "", Rule: fileName,
		Doc:   "File with the roots that verify the authority's own server (PEM), for a private one; empty: the system's.",
		field: func(c *Config) any { return &c.ACME.CA },
	},
	{
		Path: "acme.challenges", Default: "tls-alpn-01,http-01",
		Rule: eachString("a list of tls-alpn-01 and http-01", isChallenge),
		Doc: "How to prove that a name is served here; the next one is tried when one failed. " +
			"tls-alpn-01 comes by port 443, http-01 by port 80, from outside.",
		field: func(c *Config) any { return &c.ACME.Challenges },
	},
	{
		Path: "acme.profile", Default: "", Rule: printable,
		Doc:   "Kind of certificate, of those that the directory lists, such as shortlived; empty for the usual.",
		field: func(c *Config) any { return &c.ACME.Profile },
	},
	{
		Path: "acme.eabKeyId", Default: "", Rule: printable,
		Doc:   "Key id of an account that exists at the authority, where it demands one (external account binding).",
		field: func(c *Config) any { return &c.ACME.EABKeyID },
	},
	{
		Path: "acme.eabKey", Default: "", Secret: true,
		Doc:   "Key that belongs to acme.eabKeyId, in base64url.",
		field: func(c *Config) any { return &c.ACME.EABKey },
	},
	{
		Path: "acme.wait", Unit: "s", Default: "10", Rule: between(0, 300),
		Doc:   "How long such a handshake waits; then it gets the bind entry's certificate, and the order goes on.",
		field: func(c *Config) any { return &c.ACME.Wait },
	},
	{
		Path: "acme.maxInFlight", Default: "10", Rule: between(1, 1000),
		Doc:   "Names that one edge orders certificates for at once.",
		field: func(c *Config) any { return &c.ACME.MaxInFlight },
	},
	{
		Path: "acme.maxQueued", Default: "1000", Rule: between(1, 100000),
		Doc:   "Names that wait for that on one edge; beyond it a name is left to a later handshake.",
		field: func(c *Config) any { return &c.ACME.MaxQueued },
	},
	{
		Path: "acme.maxOrdersPerHour", Default: "80", Rule: between(0, 100000),
		Doc:   "Orders of all edges together within an hour, renewals included; 0 sets no limit.",
		field: func(c *Config) any { return &c.ACME.MaxPerHour },
	},
	{
		Path: "acme.maxOrdersPerDomain", Default: "40", Rule: between(0, 100000),
		Doc: "Orders of all edges together for new certificates of one registered domain within acme.domainPeriod; " +
			"0 sets no limit.",
		field: func(c *Config) any { return &c.ACME.MaxPerDomain },
	},
	{
		Path: "acme.domainPeriod", Unit: "s", Default: "604800", Rule: between(1, longest),
		Doc:   "See acme.maxOrdersPerDomain.",
		field: func(c *Config) any { return &c.ACME.DomainPeriod },
	},
}

func isChallenge(text string) bool { return text == "tls-alpn-01" || text == "http-01" }

func isHTTPS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && isPrintable(text)
}

func isEmail(text string) bool {
	name, domain, ok := strings.Cut(text, "@")
	return ok && name != "" && domain != "" && isPrintable(text) && !strings.ContainsAny(text, " ,;<>")
}

// checkACME holds the keys of certificates on demand against the rest.
func (l *loader) checkACME() {
	c := l.config
	if !c.ACME.OnDemand {
		if c.IsSet("acme.directory") {
			l.warnf("acme.directory has no effect without acme.onDemand")
		}
		return
	}
	if l.sound("acme.directory") && c.ACME.Directory == "" {
		l.wrong("acme.directory", "must name the certificate authority when acme.onDemand is true, "+
			"such as https://acme-v02.api.letsencrypt.org/directory")
	}
	if l.sound("acme.challenges") && len(c.ACME.Challenges) == 0 {
		l.wrong("acme.challenges", "must name one when acme.onDemand is true: tls-alpn-01 or http-01")
	}
	if l.sound("acme.eabKeyId", "acme.eabKey") && (c.ACME.EABKeyID == "") != (c.ACME.EABKey == "") {
		l.wrong("acme.eabKeyId", "must be set together with acme.eabKey")
	}
	for _, driver := range c.Driver {
		if l.sound("driver") && isFileDriver(driver) {
			l.wrong("acme.onDemand", "must be false with a routes file: account, locks and certificates lie in Redis, "+
				"where all edges find them; use a redis: driver, or put certificates into tls.directory")
		}
	}
	limit := c.Server.HeaderTimeout
	if l.sound("acme.wait", "server.headerTimeout") && limit > 0 && c.ACME.Wait >= limit {
		l.wrong("acme.wait", "must be less than server.headerTimeout, which bounds the handshake")
	}
	if l.sound("https.bind") && len(c.HTTPS.Bind) == 0 {
		l.warnf("acme.onDemand without https.bind: this edge answers challenges over http, and serves no certificate")
	}
}
