package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"sluice/internal/config"
)

// activatedListeners returns the sockets that systemd has bound for this process; see
// sd_listen_fds(3). A process gets them once.
func activatedListeners() ([]net.Listener, error) {
	var listeners []net.Listener
	for _, file := range activation.Files(true) {
		ln, err := net.FileListener(file) // a copy of the descriptor
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("take socket %s from systemd: it must be a ListenStream: %w", file.Name(), err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
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
