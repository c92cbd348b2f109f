package main

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ownAddresses knows the addresses that this process listens on, so that a backend that is the edge
// itself can be refused instead of going round in circles. It is not changed once made and may be
// asked from any goroutine.
type ownAddresses struct {
	listening []netip.AddrPort
	local     []netip.Addr // the machine's addresses, for listeners on all of them
}

func newOwnAddresses(listeners []net.Listener) ownAddresses {
	var own ownAddresses
	for _, ln := range listeners {
		if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
			own.listening = append(own.listening, unmap(tcp.AddrPort()))
		}
	}
	// Without the list only the loopback addresses are recognized.
	interfaces, _ := net.InterfaceAddrs()
	for _, a := range interfaces {
		if network, err := netip.ParsePrefix(a.String()); err == nil {
			own.local = append(own.local, network.Addr().Unmap())
		}
	}
	return own
}

// contains reports whether a backend's "host:port" is one of our listeners. Names other than
// localhost are not resolved: an answer could take long, and change.
func (o ownAddresses) contains(address string) bool {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return false
	}
	var candidates []netip.Addr
	if strings.EqualFold(host, "localhost") {
		candidates = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else if ip, err := netip.ParseAddr(host); err == nil {
		candidates = []netip.Addr{ip.Unmap()}
	}
	for _, ip := range candidates {
		if o.listensOn(netip.AddrPortFrom(ip, uint16(port))) {
			return true
		}
	}
	return false
}

func (o ownAddresses) listensOn(address netip.AddrPort) bool {
	for _, ln := range o.listening {
		if ln.Port() != address.Port() {
			continue
		}
		// Connecting to the unspecified address reaches loopback.
		if ln.Addr() == address.Addr() || address.Addr().IsUnspecified() {
			return true
		}
		if ln.Addr().IsUnspecified() && o.isLocal(address.Addr()) {
			return true
		}
	}
	return false
}

func (o ownAddresses) isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	for _, local := range o.local {
		if local == ip {
			return true
		}
	}
	return false
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
