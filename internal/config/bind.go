package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Bind is one address that sluice listens on. The fields after ProxyProtocol matter to https only.
type Bind struct {
	// Address is an IP address or a host name; empty means every address of the machine.
	Address string
	Port    int
	// ProxyProtocol: connections begin with a PROXY protocol header, believed from trusted peers.
	ProxyProtocol bool

	Key        string   // file with the private key, PEM
	Cert       string   // file with the certificate and its chain, PEM
	Passphrase string   // secret: opens Key
	CA         []string // files with further certificates of the chain, PEM
	ClientCA   []string // files with the authorities of clients' certificates, PEM
	Ciphers    string   // an OpenSSL cipher list; empty means the safe set of today
	// SecureProtocol is Node's name of a TLS method; empty means TLS 1.2 and 1.3.
	SecureProtocol string
}

// HostPort gives the address as [net.Listen] takes it.
func (b Bind) HostPort() string {
	return net.JoinHostPort(b.Address, strconv.Itoa(b.Port))
}

// String gives the address and what a reader wants to know besides; never the passphrase.
func (b Bind) String() string {
	s := b.HostPort()
	if b.ProxyProtocol {
		s += " (PROXY protocol)"
	}
	if b.Cert != "" {
		s += " (cert " + b.Cert + ", key " + b.Key + ")"
	}
	return s
}

// bindFields names what a bind object may hold. Ignored names are Hipache's, without meaning here.
var bindFields = []struct {
	name  string
	field func(*Bind) any
}{
	{"address", func(b *Bind) any { return &b.Address }},
	{"port", func(b *Bind) any { return &b.Port }},
	{"proxyProtocol", func(b *Bind) any { return &b.ProxyProtocol }},
	{"key", func(b *Bind) any { return &b.Key }},
	{"cert", func(b *Bind) any { return &b.Cert }},
	{"passphrase", func(b *Bind) any { return &b.Passphrase }},
	{"ca", func(b *Bind) any { return &b.CA }},
	{"clientCa", func(b *Bind) any { return &b.ClientCA }},
	{"ciphers", func(b *Bind) any { return &b.Ciphers }},
	{"secureProtocol", func(b *Bind) any { return &b.SecureProtocol }},
	{"secureOptions", nil},
	{"honorCipherOrder", nil},
}

const bindForms = "an IP, a list of IPs, or a list of objects {address, port, ...}"

// setBinds reads the forms of a bind key: one address or object, or a list of them.
func setBinds(p *[]Bind, n node) error {
	items := []node{n}
	if n.kind == listNode {
		items = n.items
	}
	binds := make([]Bind, 0, len(items))
	for _, item := range items {
		var b Bind
		var err error
		switch {
		case item.kind == objectNode:
			b, err = bindFromObject(item)
		case item.kind == stringNode && item.text == "" && n.kind == stringNode:
			continue
		case item.kind == stringNode:
			b, err = bindFromText(item.text)
		default:
			err = errors.New(bindForms)
		}
		if err != nil {
			return err
		}
		binds = append(binds, b)
	}
	*p = binds
	return nil
}

// bindFromText reads "ip", "ip:port", "[ip6]:port", "*" or a host name.
func bindFromText(text string) (Bind, error) {
	if text == "*" {
		return Bind{}, nil
	}
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return Bind{Address: address.String()}, nil
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		host, portText = text, ""
	}
	b := Bind{Address: host}
	if portText != "" {
		if b.Port, err = strconv.Atoi(portText); err != nil || b.Port < 1 || b.Port > 65535 {
			return Bind{}, fmt.Errorf("%s; the port of %q is not from 1 to 65535", bindForms, text)
		}
	}
	if !isHostName(host) {
		return Bind{}, fmt.Errorf("%s; %q is no address", bindForms, text)
	}
	return b, nil
}

// isHostName accepts IP addresses and the names that a resolver may know, such as "localhost".
func isHostName(host string) bool {
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	// Four numbers that are not an address are a typing mistake, never a name.
	onlyDigits := strings.Trim(host, "0123456789.") == ""
	return !onlyDigits && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-')
	})
}

// bindFromObject reads {address, port, ...}. A name it does not know is a mistake: unlike a key
// of the file, nothing else could be meant by it.
func bindFromObject(n node) (Bind, error) {
	var b Bind
	for _, m := range n.members {
		if m.value.kind == nullNode {
			continue
		}
		if err := setBindField(&b, m); err != nil {
			return Bind{}, err
		}
	}
	host, err := bindFromText(b.Address)
	if err != nil {
		return Bind{}, err
	}
	if b.Port < 0 || b.Port > 65535 {
		return Bind{}, fmt.Errorf("%s; the port %d is not from 1 to 65535", bindForms, b.Port)
	}
	b.Address = host.Address
	if b.Port == 0 {
		b.Port = host.Port
	}
	return b, nil
}

func setBindField(b *Bind, m member) error {
	names := make([]string, len(bindFields))
	for i, f := range bindFields {
		if names[i] = f.name; f.name != m.name {
			continue
		}
		if f.field == nil {
			return nil
		}
		if err := setNode(f.field(b), m.value); err != nil {
			return fmt.Errorf("%s; its %q must be %w", bindForms, m.name, err)
		}
		return nil
	}
	if name, distance := nearest(m.name, names); distance <= typoDistance {
		return fmt.Errorf("%s; %q is unknown there, did you mean %q?", bindForms, m.name, name)
	}
	return fmt.Errorf("%s; %q is unknown there", bindForms, m.name)
}
