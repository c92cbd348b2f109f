// Package certs loads certificates, keys and TLS settings from files and keeps them replaceable
// while connections are served.
//
// A Bundle belongs to one https listener. It never dials, never watches files by itself and never
// writes a passphrase or a key into an error or a log line.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// Options is the TLS part of the configuration of one listener.
type Options struct {
	// Cert and Key are the paths of PEM files; Cert may hold its chain. They may name the same file.
	// Both or neither: without them, a client for whose name there is nothing else gets the alert
	// unrecognized_name (RFC 6066 §3).
	Cert, Key string
	// Passphrase decrypts the key; ignored for a key in the clear. Never logged.
	Passphrase string
	// CA are paths of PEM files with further certificates. Those that continue the chain of Cert
	// are sent to clients after it, roots excepted; others are left out with a warning.
	CA []string
	// Ciphers is a list of OpenSSL's names or classes, or of Go's names, separated by colons, commas
	// or blanks. It applies to TLS 1.2; TLS 1.3 has a fixed set. Empty means Go's default.
	Ciphers string
	// HonorCipherOrder asks for the order of Ciphers. Go has one of its own, which prefers what is
	// safest and fastest on both sides; true together with Ciphers logs that.
	HonorCipherOrder bool
	// SecureProtocol is node's name of a method, such as "TLSv1_2_method". Empty means TLS 1.2 and
	// 1.3. Names of older versions get these too, with a warning.
	SecureProtocol string
	// Preset bounds the versions: PresetModern allows TLS 1.3 alone, PresetIntermediate, which is the
	// default, 1.2 as well. Ciphers and SecureProtocol, where they are set, count instead of it.
	Preset string
	// ClientCA are paths of PEM files with the authorities that clients' certificates may come from. A
	// client need not have one; one that cannot be verified ends the handshake. Empty asks for none.
	ClientCA []string
	// ByName returns the certificate for the server name that a client asked for (lower-case, no
	// trailing dot), or nil for that of Cert; client is the client's address. It is called in
	// handshakes, concurrently, and a handshake waits for it. Nil means Cert always.
	ByName func(name string, client netip.Addr) *tls.Certificate
	// OnDemand returns a certificate for a server name (as ByName) that has none which is valid, or
	// nil. It is called in handshakes alone, concurrently, and a handshake waits for it. Nil means that
	// there is no such source.
	OnDemand func(name string, client netip.Addr) *tls.Certificate
	// Challenge returns the certificate that proves to an authority that a server name (as ByName) is
	// served here (TLS-ALPN-01, RFC 8737), or nil. It is for whoever negotiates ChallengeProtocol and
	// nothing else. Nil means that nothing is ever to be proved.
	Challenge func(name string, client netip.Addr) *tls.Certificate
	// Unserved is told of each handshake that ended because there is no certificate for it; name is as
	// for ByName, and empty if the client asked for none. It must not block. May be nil.
	Unserved func(name string, client netip.Addr)
	// Log receives warnings. Nil discards them.
	Log *slog.Logger
}

// ChallengeProtocol is what an authority negotiates that validates a challenge (RFC 8737 §6.2). Such
// a connection ends with its handshake.
const ChallengeProtocol = "acme-tls/1"

// Bundle is a certificate with its settings. All methods are safe for concurrent use.
type Bundle struct {
	options  Options
	settings settings
	clients  atomic.Pointer[x509.CertPool] // nil: no certificates are asked for
	current  atomic.Pointer[stapled]       // nil: no files
}

// Load reads everything that o names. Errors say which file is wrong, how, and the way out; an
// expired certificate or an unknown cipher is a warning only.
func Load(o Options) (*Bundle, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := parseSettings(o)
	if err != nil {
		return nil, err
	}
	b := &Bundle{options: o, settings: s}
	if err := b.SetClientCA(o.ClientCA); err != nil {
		return nil, err
	}
	if err := b.Reload(); err != nil {
		return nil, err
	}
	return b, nil
}

// Reload reads the files again and uses them for handshakes from then on; connections that are
// open, and session tickets, stay as they are. After an error the old certificate stays in use.
func (b *Bundle) Reload() error {
	if b.options.Cert == "" && b.options.Key == "" {
		return nil
	}
	cert, err := loadPair(b.options)
	if err != nil {
		return err
	}
	b.current.Store(cert)
	return nil
}

// SetClientCA reads the files that Options.ClientCA names, or others in their place, for handshakes
// from then on. After an error the authorities stay as they are.
func (b *Bundle) SetClientCA(paths []string) error {
	var pool *x509.CertPool
	if len(paths) > 0 {
		var err error
		if pool, err = readPool(paths); err != nil {
			return err
		}
	}
	if !pool.Equal(b.clients.Load()) {
		b.clients.Store(pool)
	}
	return nil
}

// ClientCAs returns the authorities that clients' certificates may come from; nil means that none is
// to be asked for. It is the same pool until SetClientCA changes it.
func (b *Bundle) ClientCAs() *x509.CertPool { return b.clients.Load() }

// TLSConfig returns the configuration for a listener. It follows later reloads by itself, except for
// the authorities of clients, which are those of the moment: see ClientCAs. HTTP/1.1 is the only
// protocol that it agrees to; clients that do not negotiate one are served as well.
func (b *Bundle) TLSConfig() *tls.Config {
	config := &tls.Config{
		MinVersion:     b.settings.minVersion,
		MaxVersion:     b.settings.maxVersion,
		CipherSuites:   b.settings.ciphers,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: b.certificate,
	}
	if pool := b.clients.Load(); pool != nil {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pool
	}
	if b.options.Challenge != nil {
		config.GetConfigForClient = b.challengeConfig
	}
	return config
}

// challengeConfig returns the configuration of a handshake that validates a challenge, nil for all
// others.
func (b *Bundle) challengeConfig(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != ChallengeProtocol {
		return nil, nil //nolint:nilnil // what package tls expects for "the usual one"
	}
	cert := b.options.Challenge(serverName(hello.ServerName), clientOf(hello.Conn))
	if cert == nil {
		return nil, errNoChallenge
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{ChallengeProtocol},
		Certificates: []tls.Certificate{*cert}, SessionTicketsDisabled: true,
	}, nil
}

var errNoChallenge = errors.New("no challenge is open for this name")

// serverName returns a client's server name in the form that certificates are looked up by.
func serverName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Certificate returns what a client gets that asks for a server name, in any case; an empty one
// stands for none; nil if it gets an alert. It obtains nothing on demand.
func (b *Bundle) Certificate(name string, client netip.Addr) *tls.Certificate {
	cert, _ := b.choose(serverName(name), client)
	return cert
}

// choose returns the certificate for a server name, nil if there is none; valid is false if clients
// will refuse it.
func (b *Bundle) choose(name string, client netip.Addr) (cert *tls.Certificate, valid bool) {
	now := time.Now()
	own := b.current.Load().at(now)
	if b.options.ByName == nil && b.options.OnDemand == nil || name == "" {
		return own, true
	}
	if b.options.ByName != nil {
		cert = b.options.ByName(name, client)
	}
	if cert != nil && CheckDates(cert.Leaf, now) == nil {
		return cert, true
	}
	// An expired one is what a client gets whose name nothing else holds.
	valid = own != nil && own.Leaf.VerifyHostname(name) == nil && CheckDates(own.Leaf, now) == nil
	if valid || cert == nil {
		return own, valid
	}
	return cert, false
}

// certificate is the choice for one handshake. A swap behind GetCertificate, rather than of the
// whole configuration, keeps the session ticket keys across reloads.
func (b *Bundle) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, client := serverName(hello.ServerName), clientOf(hello.Conn)
	cert, valid := b.choose(name, client)
	// A hello without cipher suites is a question about a connection that stands, and no handshake.
	if !valid && b.options.OnDemand != nil && len(hello.CipherSuites) > 0 {
		if fresh := b.options.OnDemand(name, client); fresh != nil {
			return fresh, nil
		}
	}
	if cert == nil && b.options.Unserved != nil && len(hello.CipherSuites) > 0 {
		b.options.Unserved(name, client)
	}
	return cert, nil // For nil, package tls sends unrecognized_name.
}

// clientOf returns the address of the client of a connection, which may know better than by its peer
// who that is.
func clientOf(conn net.Conn) netip.Addr {
	if c, ok := conn.(interface{ ClientAddr() netip.Addr }); ok {
		return c.ClientAddr()
	}
	if conn != nil {
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			return a.AddrPort().Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// readPool reads the certificates of files into a pool.
func readPool(paths []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, path := range paths {
		list, err := readCertificates(path)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			pool.AddCert(c)
		}
	}
	return pool, nil
}
