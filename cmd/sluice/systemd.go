package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"sluice/internal/config"
)

// activatedSockets returns the sockets that systemd has bound for this process; see
// sd_listen_fds(3). A process gets them once.
func activatedSockets() (listeners []net.Listener, packets []*net.UDPConn, err error) {
	for _, file := range activation.Files(true) {
		ln, conn, err := activatedSocket(file)
		_ = file.Close()
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("take socket %s from systemd: it must be a ListenStream, or a ListenDatagram of "+
				"UDP for HTTP/3: %w", file.Name(), err)
		case conn != nil:
			packets = append(packets, conn)
		default:
			listeners = append(listeners, ln)
		}
	}
	return listeners, packets, nil
}

// activatedSocket makes a copy of a descriptor.
func activatedSocket(file *os.File) (net.Listener, *net.UDPConn, error) {
	kind, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		ln, err := net.FileListener(file)
		return ln, nil, err
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, nil, err
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		_ = conn.Close()
		return nil, nil, errors.New("it is not of UDP")
	}
	return nil, udp, nil
}

// packetsBoundTo reports whether a socket of UDP is the one that binding the address would make.
func packetsBoundTo(conn *net.UDPConn, network string, b config.Bind) bool {
	have := conn.LocalAddr().(*net.UDPAddr)
	want, err := net.ResolveUDPAddr(network, b.HostPort())
	if err != nil || have.Port != want.Port {
		return false
	}
	if want.IP == nil { // every address of the machine
		return have.IP.Equal(net.IPv6unspecified)
	}
	return have.IP.Equal(want.IP)
}

// boundTo reports whether a listener is the one that binding the address would make.
func boundTo(ln net.Listener, network string, b config.Bind) bool {
	have, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return false
	}
	want, err := net.ResolveTCPAddr(network, b.HostPort())
	if err != nil || have.Port != want.Port {
		return false
	}
	if want.IP == nil { // every address of the machine
		return have.IP.Equal(net.IPv6unspecified)
	}
	return have.IP.Equal(want.IP)
}

// notifyReady tells systemd that this process serves and that it is the one to send signals to,
// whoever has started it. Without systemd it does nothing.
func notifyReady(log *slog.Logger) {
	notify(log, fmt.Sprintf("%s\nMAINPID=%d", daemon.SdNotifyReady, os.Getpid()))
}

// notifyStopping tells systemd that the service comes to its end.
func notifyStopping(log *slog.Logger) { notify(log, daemon.SdNotifyStopping) }

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd not notified", "state", state, "error", err)
	}
}
