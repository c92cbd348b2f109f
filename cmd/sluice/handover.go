package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/tableflip"

	"sluice/internal/config"
)

// Limits of a handover.
const (
	// handoverTimeout is how long a new process has to become ready; then it is killed and the old
	// one goes on.
	handoverTimeout = time.Minute
	// storeTimeout is how much of it the new process waits for the store.
	storeTimeout = 10 * time.Second
)

// coldEnv tells a new process that the old one has no routes: it has nothing to lose by starting
// without them too. The name begins so that it is none of the configuration's.
const coldEnv = "_SLUICE_OLD_HAS_NO_ROUTES"

// handover passes the listening sockets on to a new process of the program, started from the same
// path with the same arguments, and takes them over from an old one or from systemd. Both processes
// accept from the same sockets for a moment, so no connection is refused or reset.
//
// It belongs to the goroutine of the signal loop. Its zero value neither takes nor passes anything.
type handover struct {
	log       *slog.Logger
	upgrader  *tableflip.Upgrader
	activated []net.Listener // bound by systemd and not taken yet
	packets   []*net.UDPConn // the same, of UDP
	sockets   []socket       // not from an old process, to be passed on
	datagrams []datagram     // the same, of UDP
	done      chan error     // the end of the attempt that is under way; nil while none is

	oldPID  int         // of the process that the sockets came from; 0 for none
	oldGone atomic.Bool // that process has ended
	onGone  func()      // called when it has
}

// socket is a listener under the name by which a new process finds it.
type socket struct {
	network, address string
	listener         net.Listener
}

// datagram is a socket of UDP under the name by which a new process finds it.
type datagram struct {
	network, address string
	conn             *net.UDPConn
}

// processUpgrader is the one that a process may have.
var processUpgrader = sync.OnceValues(func() (*tableflip.Upgrader, error) {
	return tableflip.New(tableflip.Options{UpgradeTimeout: handoverTimeout})
})

// open finds out what this process was started with.
func (h *handover) open(log *slog.Logger) (err error) {
	h.log = log
	if h.upgrader, err = processUpgrader(); err != nil {
		return fmt.Errorf("take over sockets: %w", err)
	}
	if h.upgrader.HasParent() {
		h.oldPID = os.Getppid()
		log.Info("taking over", "pid", os.Getpid(), "old_pid", h.oldPID)
	}
	h.activated, h.packets, err = activatedSockets()
	return err
}

// takesOver tells a process that an old one has started from any other.
func (h *handover) takesOver() bool { return h.oldPID != 0 }

// take returns the socket for an address if it is bound already, else nil.
func (h *handover) take(network string, b config.Bind) (net.Listener, error) {
	if h.upgrader == nil {
		return nil, nil //nolint:nilnil // no socket is a documented meaning
	}
	ln, err := h.upgrader.Listener(network, b.HostPort())
	if err != nil || ln != nil {
		return ln, err
	}
	for i, ln := range h.activated {
		if ln != nil && boundTo(ln, network, b) {
			h.activated[i] = nil
			h.note(network, b, ln)
			h.log.Info("socket taken from systemd", "address", ln.Addr().String())
			return ln, nil
		}
	}
	return nil, nil //nolint:nilnil // no socket is a documented meaning
}

// note remembers a listener for the next process. What an old process passed is remembered already.
func (h *handover) note(network string, b config.Bind, ln net.Listener) {
	h.sockets = append(h.sockets, socket{network, b.HostPort(), ln})
}

// takePackets returns the socket of UDP for an address, the first or the second of two, if it is
// bound already, else nil.
func (h *handover) takePackets(network string, b config.Bind, index int) (*net.UDPConn, error) {
	if h.upgrader == nil {
		return nil, nil //nolint:nilnil // no socket is a documented meaning
	}
	conn, err := h.upgrader.PacketConn(network, datagramName(b, index))
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		return udp, nil
	}
	for i, conn := range h.packets {
		if index == 0 && conn != nil && packetsBoundTo(conn, network, b) {
			h.packets[i] = nil
			h.notePackets(network, b, index, conn)
			h.log.Info("socket taken from systemd", "address", conn.LocalAddr().String(), "protocol", "udp")
			return conn, nil
		}
	}
	return nil, nil //nolint:nilnil // no socket is a documented meaning
}

func datagramName(b config.Bind, index int) string { return fmt.Sprintf("%s#%d", b.HostPort(), index) }

// notePackets remembers a socket of UDP for the next process.
func (h *handover) notePackets(network string, b config.Bind, index int, conn *net.UDPConn) {
	h.datagrams = append(h.datagrams, datagram{network, datagramName(b, index), conn})
}

// unused reports the sockets of systemd that no address of the configuration has taken. Clients
// would connect to them and never be answered.
func (h *handover) unused() error {
	var errs []error
	for _, ln := range h.activated {
		if ln != nil {
			errs = append(errs, fmt.Errorf("systemd passed a socket for %s, which is no address of http.bind, https.bind or "+
				"admin; give both the same address and port", ln.Addr()))
		}
	}
	for _, conn := range h.packets {
		if conn != nil {
			errs = append(errs, fmt.Errorf("systemd passed a datagram socket for %s, which HTTP/3 is not served on; set "+
				"https.http3, and give an entry of https.bind the same address and port", conn.LocalAddr()))
		}
	}
	return errors.Join(errs...)
}

// keep has a copy of each socket made for the next process. Whoever serves them takes them over then.
func (h *handover) keep() error {
	if h.upgrader == nil {
		return nil
	}
	for _, s := range h.sockets {
		if err := h.upgrader.AddListener(s.network, s.address, s.listener.(tableflip.Listener)); err != nil {
			return fmt.Errorf("keep socket of %s: %w", s.address, err)
		}
	}
	for _, d := range h.datagrams {
		if err := h.upgrader.AddPacketConn(d.network, d.address, d.conn); err != nil {
			return fmt.Errorf("keep socket of %s: %w", d.address, err)
		}
	}
	return nil
}

// complete says that this process serves: to the old one, which then drains, and to systemd. From
// here on it can hand over itself.
func (h *handover) complete() error {
	if h.upgrader == nil {
		return nil
	}
	if err := h.upgrader.Ready(); err != nil {
		// It crashed, or was killed. Its sockets are ours alone.
		h.log.Warn("the old process has ended before this one was ready", "error", err)
	}
	notifyReady(h.log)
	if h.takesOver() {
		h.log.Info("taken over", "pid", os.Getpid(), "old_pid", h.oldPID)
		go h.awaitOld()
	}
	return nil
}

// awaitOld waits for the end of the process that the sockets came from. It takes as long as that
// process drains.
func (h *handover) awaitOld() {
	if err := h.upgrader.WaitForParent(context.Background()); err != nil {
		h.log.Warn("the old process behaved strangely", "old_pid", h.oldPID, "error", err)
	}
	if h.onGone != nil {
		h.onGone()
	}
	h.oldGone.Store(true)
	h.log.Info("the old process has ended", "old_pid", h.oldPID)
}

// begin starts a new process, whose outcome comes over done.
func (h *handover) begin(haveRoutes bool) error {
	switch {
	case h.done != nil:
		return errors.New("one is under way")
	case h.takesOver() && !h.oldGone.Load():
		return fmt.Errorf("the process before this one (pid %d) still drains; wait for its end, or end it with SIGTERM",
			h.oldPID)
	}
	cold := ""
	if !haveRoutes {
		cold = "1"
	}
	if err := os.Setenv(coldEnv, cold); err != nil {
		return err
	}
	h.log.Info("handing over: starting a new process", "program", os.Args[0], "timeout", handoverTimeout.String())
	h.done = make(chan error, 1)
	go func() { h.done <- h.upgrader.Upgrade() }()
	return nil
}

// stop gives up what could be passed on, so that closing the listeners closes the sockets. A new
// process that is not ready yet is killed; handedOver tells that one came first.
func (h *handover) stop() (handedOver bool) {
	if h.upgrader == nil {
		return false
	}
	h.upgrader.Stop()
	<-h.upgrader.Exit()
	if h.done == nil {
		return false
	}
	err := <-h.done
	h.done = nil
	return err == nil
}
