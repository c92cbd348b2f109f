package cache

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// topology is how the servers behind one driver URL are found.
type topology uint8

const (
	fixedServer    topology = iota // one address
	sentinelMaster                 // the master that Sentinels name
	clusterNodes                   // all masters of a Cluster
)

// Ports that a driver URL need not name.
const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// driver is one element of Options.Driver, parsed.
type driver struct {
	file string // path of a routes file; empty for Redis

	topology topology
	network  string
	// addresses are the server, the Sentinels, or some nodes of the Cluster.
	addresses                      []string
	user, password                 string
	sentinelUser, sentinelPassword string
	master                         string // the name that the Sentinels know the master by
	database                       int
	prefix                         string

	secure     bool
	caFile     string
	certFile   string
	keyFile    string
	serverName string
	tls        *tls.Config // set by loadTLS if secure
}

// ValidateDriver checks one element of Options.Driver without opening anything. Its error never
// holds a password.
func ValidateDriver(driver string) error {
	_, err := parseDriver(driver)
	return err
}

// parseDriver parses one element of Options.Driver.
func parseDriver(s string) (driver, error) {
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return driver{}, errors.New("parse driver: file: needs a path, such as file:/etc/sluice/routes.json")
		}
		return driver{file: path}, nil
	}
	first, others := splitHosts(s)
	u, err := url.Parse(first)
	if err != nil {
		// The text of url.Parse's error holds the password.
		return driver{}, errors.New("parse driver: not a URL; percent-encode what is special in the password")
	}
	d := driver{network: "tcp", prefix: u.Fragment}
	d.user = u.User.Username()
	d.password, _ = u.User.Password()
	if d.user != "" && d.password == "" {
		return driver{}, errors.New("parse driver: user name without a password; " +
			"a password alone is written redis://:password@host")
	}
	if strings.Contains(d.user, ",") {
		return driver{}, errors.New("parse driver: user and password stand once, before the first host")
	}
	if err := d.setScheme(u, others); err != nil {
		return driver{}, fmt.Errorf("parse driver: %w", err)
	}
	return d, nil
}

// splitHosts takes all hosts but the first out of a URL, because a URL has only one.
func splitHosts(s string) (first string, others []string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s, nil
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	// A password may hold a comma, a host cannot.
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := strings.Split(rest[begin:end], ",")
	return scheme + "://" + rest[:begin] + hosts[0] + rest[end:], hosts[1:]
}

// setScheme reads what depends on the scheme.
func (d *driver) setScheme(u *url.URL, others []string) error {
	kind, ok := strings.CutPrefix(u.Scheme, "redis")
	if ok {
		if rest, isSecure := strings.CutPrefix(kind, "s"); isSecure {
			kind, d.secure = rest, true
		}
	}
	switch {
	case u.Scheme == "unix":
		return d.setUnix(u)
	case ok && kind == "":
		return d.setServer(u, others)
	case ok && kind == "+sentinel":
		return d.setSentinel(u, others)
	case ok && kind == "+cluster":
		return d.setCluster(u, others)
	default:
		return fmt.Errorf("scheme %q is none of redis, rediss, redis+sentinel, rediss+sentinel, "+
			"redis+cluster, rediss+cluster, unix, file", u.Scheme)
	}
}

func (d *driver) setServer(u *url.URL, others []string) error {
	if len(others) > 0 {
		return errors.New("redis: takes one host; several are written redis+sentinel:// or redis+cluster://, " +
			"a replica and its master are two drivers")
	}
	if err := d.setHosts(u, nil, redisPort); err != nil {
		return err
	}
	if err := d.setOptions(u, d.secureOptions()); err != nil {
		return err
	}
	return d.setDatabase(strings.Trim(u.Path, "/"))
}

func (d *driver) setSentinel(u *url.URL, others []string) error {
	d.topology = sentinelMaster
	if err := d.setHosts(u, others, sentinelPort); err != nil {
		return err
	}
	options := d.secureOptions()
	options["sentinelUser"], options["sentinelPassword"] = &d.sentinelUser, &d.sentinelPassword
	if err := d.setOptions(u, options); err != nil {
		return err
	}
	if d.sentinelUser != "" && d.sentinelPassword == "" {
		return errors.New("?sentinelUser= needs &sentinelPassword=")
	}
	var database string
	d.master, database, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	if d.master == "" {
		return errors.New("redis+sentinel: needs the master's name, such as redis+sentinel://10.0.0.1,10.0.0.2/mymaster")
	}
	return d.setDatabase(database)
}

func (d *driver) setCluster(u *url.URL, others []string) error {
	d.topology = clusterNodes
	if err := d.setHosts(u, others, redisPort); err != nil {
		return err
	}
	if database := strings.Trim(u.Path, "/"); database != "" && database != "0" {
		return fmt.Errorf("redis+cluster: has database 0 alone, not %q", database)
	}
	return d.setOptions(u, d.secureOptions())
}

func (d *driver) setUnix(u *url.URL) error {
	d.network = "unix"
	path := u.Path
	if u.Opaque != "" {
		path = u.Opaque
	}
	if u.Host != "" || path == "" {
		return errors.New("unix: needs an absolute path, such as unix:/run/redis.sock")
	}
	d.addresses = []string{path}
	var database string
	if err := d.setOptions(u, map[string]*string{"db": &database}); err != nil {
		return err
	}
	return d.setDatabase(database)
}

// setHosts reads the addresses; a host or port that is missing is the usual one.
func (d *driver) setHosts(u *url.URL, others []string, usual string) error {
	if u.Opaque != "" {
		return fmt.Errorf("write %s://host:port", u.Scheme)
	}
	for _, host := range append([]string{u.Host}, others...) {
		name, port, err := splitAddress(host)
		if err != nil {
			return err
		}
		if name == "" && len(others) > 0 {
			return errors.New("one of the hosts between the commas is empty")
		}
		if name == "" {
			name = "127.0.0.1"
		}
		if port == "" {
			port = usual
		}
		d.addresses = append(d.addresses, net.JoinHostPort(name, port))
	}
	d.serverName, _, _ = net.SplitHostPort(d.addresses[0])
	return nil
}

// splitAddress parses host[:port]; an IPv6 address stands in brackets.
func splitAddress(s string) (host, port string, err error) {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || strings.Count(s, ":") > 1 && s[0] != '[' {
		return "", "", errors.New("a host is written name:port, 192.0.2.1:port or [2001:db8::1]:port")
	}
	host, port = u.Hostname(), u.Port()
	if port != "" && !validPort([]byte(port)) {
		return "", "", fmt.Errorf("port %q is not from 1 to 65535", port)
	}
	return host, port, nil
}

// secureOptions are the options that TLS adds.
func (d *driver) secureOptions() map[string]*string {
	if !d.secure {
		return map[string]*string{}
	}
	return map[string]*string{"ca": &d.caFile, "cert": &d.certFile, "key": &d.keyFile}
}

// setOptions reads the query; its values are hidden in errors, since they may be passwords.
func (d *driver) setOptions(u *url.URL, known map[string]*string) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("the part behind ? is not name=value&name=value")
	}
	for name, values := range query {
		field, ok := known[name]
		switch {
		case !ok && !d.secure && (name == "ca" || name == "cert" || name == "key"):
			return fmt.Errorf("?%s= is for TLS: write rediss in place of redis", name)
		case !ok:
			return fmt.Errorf("?%s= is no option of %s://", name, u.Scheme)
		case len(values) > 1 || values[0] == "":
			return fmt.Errorf("?%s= needs one value", name)
		}
		*field = values[0]
	}
	if (d.certFile == "") != (d.keyFile == "") {
		return errors.New("?cert= and &key= name a client certificate and its key: give both")
	}
	return nil
}

func (d *driver) setDatabase(s string) error {
	if s == "" {
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return fmt.Errorf("database %q is not a number", s)
	}
	d.database = n
	return nil
}

// openStore makes the store that the drivers name. It reads the certificates that they name.
func openStore(o *Options, m *counters) (store, error) {
	drivers, err := parseDrivers(o.Driver)
	if err != nil {
		return nil, err
	}
	switch {
	case drivers[0].file != "":
		return newFileStore(drivers[0].file, o), nil
	case drivers[0].topology == clusterNodes:
		return newClusterStore(&drivers[0], o, m), nil
	default:
		return newRedisStore(drivers, o, m), nil
	}
}

// parseDrivers parses the drivers and holds them against each other.
func parseDrivers(urls []string) ([]driver, error) {
	if len(urls) > 2 {
		return nil, fmt.Errorf("open store: %d drivers: give one, or a read replica and a write master", len(urls))
	}
	drivers := make([]driver, len(urls))
	for i, s := range urls {
		var err error
		if drivers[i], err = parseDriver(s); err != nil {
			return nil, err
		}
		switch {
		case len(urls) > 1 && drivers[i].file != "":
			return nil, errors.New("open store: file: stands alone, it has no replica or master")
		case len(urls) > 1 && drivers[i].topology == clusterNodes:
			return nil, errors.New("open store: redis+cluster: stands alone, its masters are found by themselves")
		case len(urls) > 1 && i == 0 && drivers[i].topology == sentinelMaster:
			return nil, errors.New("open store: redis+sentinel: is a master: it stands alone or second, behind a replica")
		}
		if err := drivers[i].loadTLS(); err != nil {
			return nil, err
		}
	}
	return drivers, nil
}
