package config

import (
	"fmt"
	"slices"
	"strings"
)

// complete fills in what one key takes over from another.
func (l *loader) complete() {
	c := l.config
	if !c.IsSet("server.responseTimeout") {
		c.Server.ResponseTimeout = c.Server.TCPTimeout
		c.origins["server.responseTimeout"] = Origin{Source: FromKey, Name: "server.tcpTimeout"}
	}
	l.completeMaxSockets()
	completeBinds(c.HTTP.Bind, HTTPS{Port: c.HTTP.Port})
	completeBinds(c.HTTPS.Bind, c.HTTPS)
}

// completeMaxSockets lets Hipache's limit count only where it did: its agent was used with
// keep-alive alone.
func (l *loader) completeMaxSockets() {
	c := l.config
	switch {
	case c.Server.HTTPKeepAlive && c.IsSet("server.maxSockets"):
		if c.Server.MaxSockets > 0 && !c.IsSet("server.maxBackendConnections") {
			c.Server.MaxBackendConnections = c.Server.MaxSockets
			c.origins["server.maxBackendConnections"] = Origin{Source: FromKey, Name: "server.maxSockets"}
		}
	case c.IsSet("server.maxSockets"):
		l.warnf("server.maxSockets has no meaning without httpKeepAlive true: server.maxBackendConnections (%d) counts",
			c.Server.MaxBackendConnections)
	}
	if c.IsSet("server.httpKeepAlive") && !c.Server.HTTPKeepAlive {
		l.warnf("server.httpKeepAlive false has no meaning here: connections to backends are always reused")
	}
}

// completeBinds hands each entry what it does not say itself. The passphrase belongs to the key
// that it opens (Hipache: lib/config/config.js).
func completeBinds(binds []Bind, shared HTTPS) {
	for i := range binds {
		b := &binds[i]
		if b.Port == 0 {
			b.Port = shared.Port
		}
		if b.Key == "" {
			b.Key = shared.Key
		}
		if b.Cert == "" {
			b.Cert = shared.Cert
		}
		if b.Passphrase == "" && b.Key == shared.Key {
			b.Passphrase = shared.Passphrase
		}
		if b.CA == nil {
			b.CA = shared.CA
		}
		if b.ClientCA == nil {
			b.ClientCA = shared.ClientCA
		}
		if b.Ciphers == "" {
			b.Ciphers = shared.Ciphers
		}
		if b.SecureProtocol == "" {
			b.SecureProtocol = shared.SecureProtocol
		}
	}
}

// check holds keys against each other, as far as they are sound.
func (l *loader) check() {
	c := l.config
	if l.sound("http.bind", "https.bind") && len(c.HTTP.Bind)+len(c.HTTPS.Bind) == 0 {
		l.wrong("http.bind", "must name an address, or https.bind must: there is nothing to listen on")
	}
	l.checkHTTPS()
	l.checkAddresses()
	l.checkDrivers()
	l.checkACME()
	if c.Cache.Snapshot != "" && len(c.Driver) > 0 && strings.HasPrefix(c.Driver[0], "file:") {
		l.warnf("cache.snapshot has no effect with a routes file, which is there at the next start anyway")
	}
	if c.Cache.SnapshotKeys && c.Cache.Snapshot == "" {
		l.warnf("cache.snapshotKeys has no effect without cache.snapshot")
	}
	if l.sound("user") && l.opts.Root && c.User == "" {
		l.wrong("user", "must not be empty when started as root: name a user such as \"www-data\", "+
			"or say \"root\" if that is what you want")
	}
	if l.sound("server.drainDelay", "server.drainTimeout") && c.Server.DrainDelay > 0 && c.Server.DrainTimeout == 0 {
		l.wrong("server.drainTimeout", "must be more than 0 when server.drainDelay is set")
	}
}

func (l *loader) checkHTTPS() {
	c := l.config
	if l.sound("https.bind", "https.port", "https.key", "https.cert") {
		l.checkCertificates()
	}
	if l.sound("https.bind") && len(c.HTTPS.Bind) == 0 && c.IsSet("https.cert") {
		l.warnf("https.cert is set but https.bind is empty: there is no HTTPS listener")
	}
	if c.HTTPS.HTTP3 && l.sound("https.bind", "https.http3") {
		l.checkHTTP3()
	}
	for _, b := range c.HTTP.Bind {
		if (b.Key != "" || b.Cert != "") && l.sound("http.bind", "http.port") {
			l.wrong("http.bind", fmt.Sprintf("must not have a key or certificate: move %s to https.bind", b.HostPort()))
		}
	}
}

// checkHTTP3 finds entries that QUIC can't be spoken on.
func (l *loader) checkHTTP3() {
	able := 0
	for _, b := range l.config.HTTPS.Bind {
		switch {
		case b.ProxyProtocol:
			l.warnf("https.http3: not on %s, whose clients come through a load balancer with the PROXY protocol; it is "+
				"spoken over TCP alone", b.HostPort())
		case strings.HasPrefix(b.SecureProtocol, "TLSv1_2_"):
			l.wrong("https.http3", fmt.Sprintf("needs TLS 1.3, which secureProtocol %q of %s excludes; leave that out, or "+
				"http3", b.SecureProtocol, b.HostPort()))
		default:
			able++
		}
	}
	if able == 0 && len(l.mistakes) == 0 {
		l.wrong("https.http3", "needs an https.bind entry without proxyProtocol, and there is none")
	}
}

// checkCertificates lets an entry be without a certificate of its own where others can serve it: those
// of the store, of tls.directory, or such as are obtained.
func (l *loader) checkCertificates() {
	c := l.config
	byName := c.TLS.Directory != "" || c.ACME.OnDemand || !slices.ContainsFunc(c.Driver, isFileDriver)
	for i, b := range c.HTTPS.Bind {
		switch {
		case b.Key != "" && b.Cert != "":
		case b.Key != "" || b.Cert != "":
			l.wrong("https.bind", fmt.Sprintf("needs a key and a certificate, or neither: entry %d (%s) has one of them; "+
				"set https.key and https.cert", i+1, b.HostPort()))
		case !byName:
			l.wrong("https.bind", fmt.Sprintf("needs a key and a certificate: entry %d (%s) has neither, and with a routes "+
				"file nothing else serves all names; set https.key and https.cert, or tls.directory", i+1, b.HostPort()))
		default:
			l.warnf("https.bind: entry %d (%s) has no certificate: clients that ask for no name, or for one without a "+
				"certificate of its own, are refused (unrecognized_name)", i+1, b.HostPort())
		}
	}
}

// checkAddresses finds two listeners on one address before the system does, which could only say
// "address already in use".
func (l *loader) checkAddresses() {
	if !l.sound("http.bind", "http.port", "https.bind", "https.port", "admin.bind", "admin.port") {
		return
	}
	c := l.config
	taken := make(map[string]string)
	claim := func(path, address string) {
		if other, ok := taken[address]; ok {
			l.wrong(path, fmt.Sprintf("must not use %s twice: it is in %s already", address, other))
			return
		}
		taken[address] = path
	}
	for _, b := range c.HTTP.Bind {
		claim("http.bind", b.HostPort())
	}
	for _, b := range c.HTTPS.Bind {
		claim("https.bind", b.HostPort())
	}
	if c.Admin.Port != 0 {
		claim("admin.bind", Bind{Address: c.Admin.Bind, Port: c.Admin.Port}.HostPort())
	}
}

func (l *loader) checkDrivers() {
	if !l.sound("driver") {
		return
	}
	c := l.config
	switch {
	case len(c.Driver) == 0:
		l.wrong("driver", "must name a store, such as redis://127.0.0.1:6379 or file:routes.json")
	case len(c.Driver) > 2:
		l.wrong("driver", "must be one URL, or two: a read replica and the write master")
	case len(c.Driver) == 2 && slices.ContainsFunc(c.Driver, isFileDriver):
		l.wrong("driver", "must not put file: beside another store: it has no replica and no master")
	}
	if l.opts.CheckDriver == nil {
		return
	}
	for _, driver := range c.Driver {
		if err := l.opts.CheckDriver(driver); err != nil {
			l.wrong("driver", err.Error())
		}
	}
}

func isFileDriver(driver string) bool { return strings.HasPrefix(driver, "file:") }

// wrong adds a mistake about the effective value of a key.
func (l *loader) wrong(path, rule string) {
	key, ok := keyByPath(path)
	if !ok {
		panic("BUG: no key " + path)
	}
	l.mistakes = append(l.mistakes, Mistake{
		Path: path, Value: fmt.Sprintf("%q", key.display(l.config)), Rule: rule, Origin: l.config.origins[path],
	})
}
