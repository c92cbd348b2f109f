package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"sluice/internal/certs"
	"sluice/internal/config"
)

// listener is a bound address of the configuration.
type listener struct {
	net.Listener
	bind   config.Bind
	bundle *certs.Bundle // nil for plain HTTP
}

// listenAll binds every address that no other process has bound for this one, plain HTTP first. After
// an error nothing stays bound.
func listenAll(ctx context.Context, cfg *config.Config, h *handover) (bound []listener, err error) {
	all := append(append([]config.Bind(nil), cfg.HTTP.Bind...), cfg.HTTPS.Bind...)
	for _, b := range all {
		ln, listenErr := listen(ctx, b, all, h)
		if listenErr != nil {
			for _, other := range bound {
				err = errors.Join(err, other.Close())
			}
			return nil, errors.Join(listenErr, err)
		}
		bound = append(bound, listener{Listener: ln, bind: b})
	}
	return bound, nil
}

// listen takes the socket of one address over, or binds it; all is the whole list that it belongs to.
func listen(ctx context.Context, b config.Bind, all []config.Bind, h *handover) (net.Listener, error) {
	network := listenNetwork(b, all)
	ln, err := h.take(network, b)
	if err != nil || ln != nil {
		return ln, err
	}
	if ln, err = bind(ctx, network, b); err == nil {
		h.note(network, b, ln)
	}
	return ln, err
}

func bind(ctx context.Context, network string, b config.Bind) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, network, b.HostPort())
	if err != nil {
		return nil, bindError(b.HostPort(), err)
	}
	return ln, nil
}

// bindError says what to do about an address that can't be bound.
func bindError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("bind %s: ports below 1024 need root or CAP_NET_BIND_SERVICE: %w", address, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("bind %s: another process has that port: %w", address, err)
	}
	return fmt.Errorf("bind %s: %w", address, err)
}

// listenNetwork keeps an address to its own family. Go would bind 0.0.0.0 for IPv6 as well. The
// address :: serves both families, as in Node, unless IPv4 has an entry of its own on that port.
func listenNetwork(b config.Bind, all []config.Bind) string {
	ip, err := netip.ParseAddr(b.Address)
	switch {
	case err != nil:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	case !ip.IsUnspecified():
		return "tcp6"
	}
	for _, other := range all {
		if o, err := netip.ParseAddr(other.Address); err == nil && o.Is4() && other.Port == b.Port {
			return "tcp6"
		}
	}
	return "tcp"
}
