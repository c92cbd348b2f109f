package main

import (
	"os"
	"strings"
)

// serveQUIC starts to serve HTTP/3, and takes the packets over from an old process.
func (e *edge) serveQUIC() error {
	if len(e.quic) == 0 {
		return nil
	}
	// The library would tell of small buffers in its own way, on standard error.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		return err
	}
	for _, s := range e.quic {
		conn, tag := s.reads()
		bind := e.proxyBind(e.listenerAt(s.bind.HostPort()))
		e.serve(s.bind.HostPort()+" over udp", func() error { return e.proxy.ServeQUIC(conn, bind, tag) })
	}
	if e.handover.takesOver() {
		e.steerQUIC(true)
		e.handover.onGone = func() { e.steerQUIC(false) }
	}
	return nil
}

// listenerAt gives the https listener of an address.
func (e *edge) listenerAt(address string) (found listener) {
	for _, ln := range e.listeners {
		if ln.bundle != nil && ln.bind.HostPort() == address {
			found = ln
		}
	}
	return found
}

// steerQUIC has this process get the packets, but for those of an old one that still drains.
func (e *edge) steerQUIC(oldDrains bool) {
	for _, s := range e.quic {
		if err := s.steer(oldDrains); err != nil {
			e.log.Error("http/3 may lose packets", "error", err)
		}
	}
}

// noteQUIC leaves word for a new process of which sockets this one reads.
func (e *edge) noteQUIC() error {
	names := make([]string, len(e.quic))
	for i, s := range e.quic {
		names[i] = datagramName(s.bind, s.own)
	}
	return os.Setenv(quicSocketsEnv, strings.Join(names, " "))
}

// leaveQUIC ends the connections whose packets go to the new process: all, if one of the sockets
// cannot be shared.
func (e *edge) leaveQUIC() {
	for _, s := range e.quic {
		if s.alone() {
			e.log.Info("http/3 connections are closed: their socket is the new process's", "address", s.bind.HostPort())
			e.proxy.CutQUIC()
			return
		}
	}
}
