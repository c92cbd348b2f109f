package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"

	"sluice/cache"
	"sluice/internal/acme"
	"sluice/internal/config"
)

// The store of the routes is also where the edges of a fleet agree on certificates.
var _ acme.Store = (*cache.ACMEStore)(nil)

// startIssuer begins to obtain certificates on demand, if the configuration asks for it.
func (e *edge) startIssuer() error {
	if !e.started.ACME.OnDemand {
		return nil
	}
	options, err := issuerSettings(e.started)
	if err != nil {
		return err
	}
	store, err := e.routes.ACME()
	if err != nil {
		return fmt.Errorf("acme.onDemand: %w; it needs Redis, where account, locks and certificates lie", err)
	}
	options.Store, options.Routed = store, e.routed
	options.Log, options.Metrics = e.log.Logger, e.metrics
	if e.issuer, err = acme.New(options); err != nil {
		return err
	}
	e.issuer.Start()
	return nil
}

// issuerSettings translates the configuration for certificates on demand. It reads acme.ca.
func issuerSettings(cfg *config.Config) (acme.Options, error) {
	a := cfg.ACME
	roots, err := readRoots("acme.ca", a.CA)
	if err != nil {
		return acme.Options{}, err
	}
	return acme.Options{
		Directory: a.Directory, Email: a.Email, Roots: roots, Challenges: a.Challenges, Profile: a.Profile,
		EABKeyID: a.EABKeyID, EABKey: a.EABKey,
		Wait: a.Wait, MaxInFlight: a.MaxInFlight, MaxQueued: a.MaxQueued,
		MaxPerHour: a.MaxPerHour, MaxPerDomain: a.MaxPerDomain, DomainPeriod: a.DomainPeriod,
		UserAgent: "sluice/" + programVersion(),
	}, nil
}

// routed tells whether a name has a frontend of its own with a backend. What only a wildcard
// answers for has not: anybody could make up such names.
func (e *edge) routed(name string, client netip.Addr) (bool, error) {
	route, err := e.routes.Lookup([]byte(name), client)
	switch {
	case errors.Is(err, cache.ErrUnknownHost):
		return false, nil
	case err != nil:
		return false, err
	}
	f := route.Frontend()
	return f.Key == name && len(f.Backends) > 0, nil
}

// obtain and tlsChallenge are called in handshakes, none of which comes before startServing.
func (e *edge) obtain(name string, client netip.Addr) *tls.Certificate {
	return e.issuer.Obtain(name, client)
}

func (e *edge) tlsChallenge(name string, client netip.Addr) *tls.Certificate {
	return e.issuer.TLSChallenge(name, client)
}

// httpChallenge returns what answers HTTP-01 challenges; nil if nothing does.
func (e *edge) httpChallenge() func(host, token []byte, client netip.Addr) []byte {
	if e.issuer == nil {
		return nil
	}
	return e.issuer.HTTPChallenge
}
