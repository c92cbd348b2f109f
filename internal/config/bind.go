package config

import (
	"net"
	"strconv"
)

// Bind is one address that sluice listens on. The fields after ProxyProtocol matter to https only.
type Bind struct {
	// Address is an IP address or a host name; empty means every address of the machine.
	Address string
	Port    int
	// ProxyProtocol: each connection begins with a PROXY header, believed from trusted peers.
	ProxyProtocol bool

	Key        string   // file with the private key, PEM
	Cert       string   // file with the certificate and its chain, PEM
	Passphrase string   // secret: opens Key
	CA         []string // files with further certificates of the chain, PEM
	Ciphers    string   // an OpenSSL cipher list; empty means the safe set of today
}

// HostPort gives the address as [net.Listen] takes it.
func (b Bind) HostPort() string {
	return net.JoinHostPort(b.Address, strconv.Itoa(b.Port))
}
