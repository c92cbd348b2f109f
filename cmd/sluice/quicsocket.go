package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"sluice/internal/config"
)

// quicSocket is an address of https.bind over UDP. Two sockets share it, of which a process reads
// one: at a handover the new process takes the other, and each gets the packets of its own
// connections, so that requests of the old one end in peace. A socket from systemd is alone.
type quicSocket struct {
	bind  config.Bind
	conns [2]*net.UDPConn // in the order in which they were bound, by which the kernel numbers them
	own   int             // the one that this process reads
}

// quicTags begin the ids of the connections of a process that reads the first, or the second, socket.
var quicTags = [2]uint16{0x5300, 0x5301}

// quicSocketsEnv tells a new process which sockets the old one reads, by their names: addresses that
// came at different times, or from systemd, are not at the same one of their two. The variable's name
// begins so that it is none of the configuration's.
const quicSocketsEnv = "_SLUICE_OLD_QUIC_SOCKETS"

// listenQUIC binds the addresses that HTTP/3 is served on. After an error nothing stays bound.
func listenQUIC(ctx context.Context, cfg *config.Config, h *handover) (sockets []*quicSocket, err error) {
	if !cfg.HTTPS.HTTP3 {
		return nil, nil
	}
	all := append(append([]config.Bind(nil), cfg.HTTP.Bind...), cfg.HTTPS.Bind...)
	for _, b := range cfg.HTTPS.Bind {
		if b.ProxyProtocol {
			continue // The configuration's check has said so.
		}
		s := &quicSocket{bind: b}
		if err := s.open(ctx, strings.Replace(listenNetwork(b, all), "tcp", "udp", 1), h); err != nil {
			for _, other := range append(sockets, s) {
				other.close()
			}
			return nil, fmt.Errorf("%w; https.http3 needs it", err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// open takes the sockets over, or binds them.
func (s *quicSocket) open(ctx context.Context, network string, h *handover) error {
	for i := range s.conns {
		conn, err := h.takePackets(network, s.bind, i)
		if err != nil {
			return err
		}
		s.conns[i] = conn
	}
	switch {
	case s.conns[0] == nil:
		if err := s.listen(ctx, network); err != nil {
			return err
		}
		for i, conn := range s.conns {
			h.notePackets(network, s.bind, i, conn)
		}
		return s.steer(false)
	case s.conns[1] != nil && slices.Contains(strings.Fields(os.Getenv(quicSocketsEnv)), datagramName(s.bind, 0)):
		s.own = 1
	}
	return nil // The old process has the packets until this one is ready.
}

// listen binds both sockets.
func (s *quicSocket) listen(ctx context.Context, network string) error {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(err, controlErr)
	}}
	if err := s.claim(ctx, network); err != nil {
		return err
	}
	for i := range s.conns {
		conn, err := lc.ListenPacket(ctx, network, s.bind.HostPort())
		if err != nil {
			return bindError(s.bind.HostPort()+" over UDP", err)
		}
		s.conns[i] = conn.(*net.UDPConn)
	}
	return nil
}

// claim finds out whether another process has the port, which those of the same user could share.
func (s *quicSocket) claim(ctx context.Context, network string) error {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, network, s.bind.HostPort())
	if err != nil {
		return bindError(s.bind.HostPort()+" over UDP", err)
	}
	return conn.Close()
}

// alone tells that no second socket is there: a handover ends the connections.
func (s *quicSocket) alone() bool { return s.conns[1] == nil }

// reads gives the socket that this process serves, and the tag of its connections.
func (s *quicSocket) reads() (*net.UDPConn, uint16) { return s.conns[s.own], quicTags[s.own] }

// steer has the kernel deliver packets to this process: all of them, or all but those of the
// connections of an old one that still ends its requests.
func (s *quicSocket) steer(oldDrains bool) error {
	if s.alone() {
		return nil
	}
	program, err := bpf.Assemble(steering(s.own, oldDrains))
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	raw, err := s.conns[s.own].SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}) //nolint:gosec // ten instructions
	})
	if err := errors.Join(err, controlErr); err != nil {
		return fmt.Errorf("steer packets of %s: %w", s.bind.HostPort(), err)
	}
	return nil
}

// steering is the program that chooses the socket for a packet by the id of its connection: at a
// fixed place behind the first byte, or behind the version and a length (RFC 8999 §5).
func steering(own int, oldDrains bool) []bpf.Instruction {
	toOwn := bpf.RetConstant{Val: uint32(own)} //nolint:gosec // 0 or 1
	if !oldDrains {
		return []bpf.Instruction{toOwn}
	}
	other := 1 - own
	const longHeader, idLength = 0x80, 8
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: longHeader, SkipTrue: 2},
		bpf.LoadAbsolute{Off: 1, Size: 2},
		bpf.Jump{Skip: 3},
		bpf.LoadAbsolute{Off: 5, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: idLength, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(quicTags[other]), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(other)}, //nolint:gosec // 0 or 1
		toOwn,
	}
}

// close gives both sockets up.
func (s *quicSocket) close() {
	for _, conn := range s.conns {
		if conn != nil {
			_ = conn.Close() // It may be closed already.
		}
	}
}

// quicBuffer is what bursts of packets need room for.
const quicBuffer = 7 << 20

// roomy makes the buffers of both sockets as large as is allowed, and tells how to allow more.
func (s *quicSocket) roomy(log *slog.Logger) {
	least := quicBuffer
	for _, conn := range s.conns {
		if conn != nil {
			least = min(least, widen(conn))
		}
	}
	if least < quicBuffer {
		log.Warn("udp buffers are small: bursts of packets may be lost, which slows HTTP/3 down",
			"address", s.bind.HostPort(), "bytes", least, "wanted", quicBuffer,
			"remedy", fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d, then restart", quicBuffer, quicBuffer))
	}
}

// widen asks for large buffers and returns the size of the smaller one.
func widen(conn *net.UDPConn) int {
	least := quicBuffer
	raw, err := conn.SyscallConn()
	if err != nil {
		return least
	}
	_ = raw.Control(func(fd uintptr) { // It fails only on a closed socket.
		for _, o := range [][2]int{{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE}, {unix.SO_SNDBUF, unix.SO_SNDBUFFORCE}} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[1], quicBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[0], quicBuffer) // What it has is asked for next.
			}
			if have, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, o[0]); err == nil {
				least = min(least, have/2) // The kernel doubles what it is asked for.
			}
		}
	})
	return least
}
