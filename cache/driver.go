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

// driver is one element of Options.Driver, parsed.
type driver struct {
	file string // path of a routes file; empty for Redis

	network, address string
	tls              *tls.Config
	user, password   string
	database         int
	prefix           string
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
	u, err := url.Parse(s)
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
	switch u.Scheme {
	case "redis", "rediss":
		err = d.setTCP(u)
	case "unix":
		err = d.setUnix(u)
	default:
		err = fmt.Errorf("parse driver: scheme %q is none of redis, rediss, unix, file", u.Scheme)
	}
	return d, err
}

func (d *driver) setTCP(u *url.URL) error {
	if u.Opaque != "" {
		return fmt.Errorf("parse driver: write %s://host:port", u.Scheme)
	}
	if u.RawQuery != "" {
		return errors.New("parse driver: redis: and rediss: take no ?options")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "6379"
	}
	if !validPort([]byte(port)) {
		return fmt.Errorf("parse driver: port %q is not from 1 to 65535", port)
	}
	d.address = net.JoinHostPort(host, port)
	if u.Scheme == "rediss" {
		d.tls = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return d.setDatabase(strings.Trim(u.Path, "/"))
}

func (d *driver) setUnix(u *url.URL) error {
	d.network, d.address = "unix", u.Path
	if u.Opaque != "" {
		d.address = u.Opaque
	}
	if u.Host != "" || d.address == "" {
		return errors.New("parse driver: unix: needs an absolute path, such as unix:/run/redis.sock")
	}
	query := u.Query()
	db := query.Get("db")
	query.Del("db")
	if len(query) > 0 {
		return errors.New("parse driver: unix: takes no option but ?db=")
	}
	return d.setDatabase(db)
}

func (d *driver) setDatabase(s string) error {
	if s == "" {
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return fmt.Errorf("parse driver: database %q is not a number", s)
	}
	d.database = n
	return nil
}

// openStore makes the store that the drivers name.
func openStore(o *Options, m *counters) (store, error) {
	drivers := make([]driver, len(o.Driver))
	for i, s := range o.Driver {
		var err error
		if drivers[i], err = parseDriver(s); err != nil {
			return nil, err
		}
	}
	if len(drivers) == 1 && drivers[0].file != "" {
		return newFileStore(drivers[0].file, o), nil
	}
	if len(drivers) > 2 {
		return nil, fmt.Errorf("open store: %d drivers: give one, or a read replica and a write master", len(drivers))
	}
	for _, d := range drivers {
		if d.file != "" {
			return nil, errors.New("open store: file: stands alone, it has no replica or master")
		}
	}
	return newRedisStore(drivers, o, m), nil
}
