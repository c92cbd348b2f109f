package cache

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// loadTLS reads the certificates that the driver names.
func (d *driver) loadTLS() error {
	if !d.secure {
		return nil
	}
	d.tls = &tls.Config{ServerName: d.serverName, MinVersion: tls.VersionTLS12}
	if d.caFile != "" {
		pem, err := os.ReadFile(d.caFile)
		if err != nil {
			return fmt.Errorf("open store: read ?ca=: %w", err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("open store: read ?ca=: %s holds no certificate in PEM", d.caFile)
		}
	}
	if d.certFile != "" {
		pair, err := tls.LoadX509KeyPair(d.certFile, d.keyFile)
		if err != nil {
			return fmt.Errorf("open store: read ?cert= and &key=: %w", err)
		}
		d.tls.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// tlsFor returns the configuration for one address, whose host the certificate must name; nil
// without TLS.
func (d *driver) tlsFor(address string) *tls.Config {
	if d.tls == nil {
		return nil
	}
	config := d.tls.Clone()
	if host, _, err := net.SplitHostPort(address); err == nil {
		config.ServerName = host
	}
	return config
}
