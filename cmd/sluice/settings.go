package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"sluice/cache"
	"sluice/internal/config"
	"sluice/proxy"
)

// proxySettings translates the configuration for the data plane. It reads server.backendCA.
func proxySettings(cfg *config.Config) (proxy.Config, error) {
	s := cfg.Server
	roots, err := readRoots("server.backendCA", s.BackendCA)
	if err != nil {
		return proxy.Config{}, err
	}
	settings := proxy.Config{
		Version:                programVersion(),
		TrustedProxies:         s.TrustedProxies,
		TrustedProxiesSet:      cfg.IsSet("server.trustedProxies"),
		DebugHeaders:           proxy.DebugHeaders(s.DebugHeaders),
		Compat:                 proxy.Compat(s.Compat),
		RequestIDHeader:        s.RequestIDHeader,
		Via:                    s.Via,
		AltSvc:                 cfg.HTTPS.AltSvc,
		Upgrades:               s.Upgrades,
		Balance:                proxy.Balance(s.Balance),
		RetryOnError:           s.RetryOnError,
		RetryTimeout:           s.RetryTimeout,
		DeadBackendOn500:       s.DeadBackendOn500,
		ConnectTimeout:         s.ConnectTimeout,
		ResponseTimeout:        s.ResponseTimeout,
		HeaderTimeout:          s.HeaderTimeout,
		IdleTimeout:            s.IdleTimeout,
		BodyIdleTimeout:        s.BodyIdleTimeout,
		BackendBodyIdleTimeout: s.BackendBodyIdleTimeout,
		TunnelIdleTimeout:      s.TunnelIdleTimeout,
		HalfCloseGrace:         s.HalfCloseGrace,
		BackendIdleTimeout:     s.BackendIdleTimeout,
		DrainTimeout:           s.DrainTimeout,
		MinBodyRate:            s.MinBodyRate,
		MaxHeaderBytes:         s.MaxHeaderBytes,
		MaxHeaderFields:        s.MaxHeaderFields,
		MaxBodyBytes:           s.MaxBodyBytes,
		DeferAccept:            s.DeferAccept,
		MaxConnections:         s.MaxConnections,
		MaxConnectionsPerIP:    s.MaxConnectionsPerIP,
		MaxHandshakesPerSecond: cfg.TLS.MaxHandshakesPerSecond,
		MaxBackendConnections:  s.MaxBackendConnections,
		MaxTunnels:             s.MaxTunnels,
		MaxStreams:             s.MaxStreams,
		BackendCA:              roots,
	}
	if len(cfg.HTTPS.Bind) > 0 {
		settings.HTTPSPort = cfg.HTTPS.Bind[0].Port
	}
	settings.PublicHTTPSPort = cfg.HTTPS.PublicPort
	limitByFiles(&settings, openFileLimit())
	return settings, nil
}

// limitByFiles fills in the limits that follow from how many files the process may have open. Of
// the 80 % that connections may use, half is for clients, since each may need one to a backend;
// a tunnel always needs both.
func limitByFiles(s *proxy.Config, files int) {
	share := max(files*4/10, 1)
	if s.MaxConnections == 0 {
		s.MaxConnections = share
	}
	if s.MaxTunnels == 0 {
		s.MaxTunnels = share
	}
}

// fallbackFiles is assumed where the system does not tell its limit.
const fallbackFiles = 1024

// maxFiles bounds what an "unlimited" process counts on.
const maxFiles = 1 << 24

// openFileLimit is RLIMIT_NOFILE, which the Go runtime has raised to its hard limit by now.
func openFileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fallbackFiles
	}
	return int(min(limit.Cur, maxFiles))
}

// readRoots reads the certificates that servers are verified by, from the file that a key names; nil
// means the system's.
func readRoots(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // no pool is a documented meaning
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read %s: %s holds no certificate in PEM", key, file)
	}
	return pool, nil
}

// defaultPolicy is the policy of all hosts in the form of the store; nil where nothing is set.
func defaultPolicy(cfg *config.Config) map[string]string {
	fields := map[string]string{
		"redirectHttps": strconv.FormatBool(cfg.Policy.RedirectHTTPS),
		"redirectCode":  cfg.Policy.RedirectCode,
		"hsts":          cfg.Policy.HSTS,
	}
	for name := range fields {
		if !cfg.IsSet("policy." + name) {
			delete(fields, name)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return fields
}

// cacheSettings translates the configuration for the table of routes, whose options read zero as
// "default" where the file means "off".
func cacheSettings(cfg *config.Config) cache.Options {
	c := cfg.Cache
	options := cache.Options{
		Driver:          cfg.Driver,
		MaxHosts:        c.MaxHosts,
		MaxDerivedHosts: c.MaxDerivedHosts,
		MaxUnknownHosts: c.MaxUnknownHosts,
		MaxBackends:     c.MaxBackends,
		MaxMissRate:     c.MaxMissRate,
		MaxAge:          c.MaxAge,
		NegativeTTL:     c.NegativeTTL,
		MaxStale:        c.MaxStale,
		TornWriteGrace:  c.TornWriteGrace,
		DeadTTL:         cfg.Server.DeadBackendTTL,
		Snapshot:        c.Snapshot,
		SnapshotKeys:    c.SnapshotKeys,
		MaxCertificates: cfg.TLS.MaxCertificates,
		Policy:          defaultPolicy(cfg),
	}
	if c.MaxMissRate == 0 {
		options.MaxMissRate = -1
	}
	if c.TornWriteGrace == 0 {
		options.TornWriteGrace = -1
	}
	if c.NegativeTTL == 0 {
		options.NegativeTTL = time.Nanosecond
	}
	return options
}
