package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// legacyHTTPS is the section of Hipache 0.3 that became "https".
const legacyHTTPS = "server.https"

// renamed maps the keys of older Hipache files to those of today (Hipache: lib/config/legacy.js).
var renamed = []struct{ old, now string }{
	{"server.port", "http.port"},
	{"server.address", "http.bind"},
	{legacyHTTPS + ".bind", "https.bind"},
	{legacyHTTPS + ".port", "https.port"},
	{legacyHTTPS + ".key", "https.key"},
	{legacyHTTPS + ".cert", "https.cert"},
	{legacyHTTPS + ".passphrase", "https.passphrase"},
	{legacyHTTPS + ".ca", "https.ca"},
	{legacyHTTPS + ".ciphers", "https.ciphers"},
	{legacyHTTPS + ".secureProtocol", "https.secureProtocol"},
	{legacyHTTPS + ".secureOptions", "https.secureOptions"},
	{legacyHTTPS + ".honorCipherOrder", "https.honorCipherOrder"},
	{"server.uniqueIdHeader", "server.requestIdHeader"},
}

// legacyRedis are the keys that became one driver URL (Hipache: lib/cache.js).
var legacyRedis = []string{
	"redisHost", "redisPort", "redisPassword", "redisDatabase",
	"redisMasterHost", "redisMasterPort", "redisMasterPassword", "redisMasterDatabase",
}

// entryList is the content of a file by path.
type entryList []entry

func (l entryList) find(path string) (node, bool) {
	i := slices.IndexFunc(l, func(e entry) bool { return e.path == path })
	if i < 0 {
		return node{}, false
	}
	return l[i].value, true
}

// take removes the entry at path and gives its value.
func (l *entryList) take(path string) (node, bool) {
	value, ok := l.find(path)
	if ok {
		*l = slices.DeleteFunc(*l, func(e entry) bool { return e.path == path })
	}
	return value, ok
}

// renameLegacy puts the keys of older files under today's names, one warning for each. Today's
// name wins where both are there, as it does in Hipache.
func (l *loader) renameLegacy(entries []entry) []entry {
	list := entryList(entries)
	legacySection := slices.ContainsFunc(list, func(e entry) bool { return strings.HasPrefix(e.path, legacyHTTPS+".") })
	l.mergeAddresses(&list)
	_, addressGiven := list.find("server.address")
	address, _ := list.find("server.address")
	for _, r := range renamed {
		value, ok := list.take(r.old)
		if !ok {
			continue
		}
		if _, both := list.find(r.now); both {
			l.warnf("%s is ignored: %s is set too", r.old, r.now)
			continue
		}
		l.warnf("%s is an old name: please write %s", r.old, r.now)
		list = append(list, entry{path: r.now, value: value})
	}
	l.bindLegacyHTTPS(&list, legacySection, addressGiven, address)
	l.mergeRedis(&list)
	return list
}

// mergeAddresses adds server.address6 (Hipache 0.2) to server.address.
func (l *loader) mergeAddresses(list *entryList) {
	second, ok := list.take("server.address6")
	if !ok {
		return
	}
	l.warnf("server.address6 is an old name: please write http.bind")
	merged := node{kind: listNode, line: second.line}
	if first, both := list.take("server.address"); both {
		merged.items = append(merged.items, itemsOf(first)...)
	}
	merged.items = append(merged.items, itemsOf(second)...)
	*list = append(*list, entry{path: "server.address", value: merged})
}

func itemsOf(n node) []node {
	if n.kind == listNode {
		return n.items
	}
	return []node{n}
}

// bindLegacyHTTPS binds HTTPS where older files do without saying so: server.address counts for
// both protocols, and a server.https section without any address means the addresses of HTTP.
func (l *loader) bindLegacyHTTPS(list *entryList, legacySection, addressGiven bool, address node) {
	_, bound := list.find("https.bind")
	_, certificate := list.find("https.cert")
	if bound || !certificate || !legacySection && !addressGiven {
		return
	}
	if !addressGiven {
		address, addressGiven = list.find("http.bind")
	}
	if !addressGiven {
		address = node{kind: listNode, items: []node{{kind: stringNode, text: "127.0.0.1"}}}
	}
	// An address may have brought the port of HTTP along; HTTPS has its own.
	binds := node{kind: listNode, line: address.line}
	for _, item := range itemsOf(address) {
		if item.kind == objectNode {
			item.members = slices.DeleteFunc(slices.Clone(item.members), func(m member) bool { return m.name == "port" })
		}
		binds.items = append(binds.items, item)
	}
	*list = append(*list, entry{path: "https.bind", value: binds})
}

// mergeRedis writes redisHost and its like as driver URLs, unless there is a driver.
func (l *loader) mergeRedis(list *entryList) {
	values := make(map[string]node)
	line := 0
	for _, name := range legacyRedis {
		if value, ok := list.take(name); ok {
			values[name] = value
			line = max(line, value.line)
		}
	}
	if len(values) == 0 {
		return
	}
	if _, both := list.find("driver"); both {
		l.warnf("redisHost and the other redis* keys are ignored: driver is set too")
		return
	}
	drivers := node{kind: listNode, line: line}
	drivers.items = append(drivers.items, redisURL(values, "redis"))
	_, hasHost := values["redisMasterHost"]
	_, hasPort := values["redisMasterPort"]
	if hasHost || hasPort {
		drivers.items = append(drivers.items, redisURL(values, "redisMaster"))
	}
	l.warnf("redisHost and the other redis* keys are old names: please write \"driver\": %s",
		hideIn(Key{field: func(c *Config) any { return (*urlList)(&c.Driver) }}, drivers))
	*list = append(*list, entry{path: "driver", value: drivers})
}

// redisURL builds the URL of one server. A host that is a path is a unix socket, which the Redis
// client of Hipache accepts there.
func redisURL(values map[string]node, prefix string) node {
	host, port := values[prefix+"Host"].text, values[prefix+"Port"].text
	password, database := values[prefix+"Password"].text, values[prefix+"Database"].text
	u := url.URL{Scheme: "redis"}
	if password != "" {
		u.User = url.UserPassword("", password)
	}
	if strings.HasPrefix(host, "/") {
		u.Scheme, u.Path = "unix", host
		if database != "" {
			u.RawQuery = url.Values{"db": {database}}.Encode()
		}
		return node{kind: stringNode, text: u.String()}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "6379"
	}
	u.Host = net.JoinHostPort(host, port)
	if database != "" {
		u.Path = "/" + database
	}
	return node{kind: stringNode, text: u.String()}
}
