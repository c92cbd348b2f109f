package proxy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parkAfter is how long a client connection is idle before it is parked. Parking and coming back cost about as much as
// a quarter of a request: once a second at most, that is nothing.
const parkAfter = time.Second

// parking holds client connections that are between two requests: without a goroutine, a buffer or a timer, which would
// cost ten times what is left of them. An epoll instance of its own watches their sockets, and the runtime's poller
// watches that. Whoever takes a connection out of its slot owns it: the watcher to have it served, the sweep at its
// idle limit, cut at the end.
type parking struct {
	serve func(*acceptedConn) // takes a connection up again; called on a goroutine of its own
	after time.Duration       // parkAfter; never changes while connections are accepted
	epoll *os.File
	raw   syscall.RawConn
	done  chan struct{} // the watcher has ended

	mu     sync.Mutex
	slots  []slot // by descriptor
	count  int
	closed bool
}

// slot is what is parked under one descriptor.
type slot struct {
	conn  *acceptedConn // nil: nothing
	until instant       // its idle limit
}

// newParking returns a parking whose watcher runs until close.
func newParking(serve func(*acceptedConn)) (*parking, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // Else the runtime would not poll it.
	}
	if err != nil {
		return nil, fmt.Errorf("proxy: watch idle connections: %w", err)
	}
	p := &parking{serve: serve, after: parkAfter, epoll: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy: watch idle connections: %w", err), p.epoll.Close())
	}
	go p.watch()
	return p, nil
}

// park takes over a connection that waits for a request, until a byte or its end comes, or the idle limit. The caller
// must not use it any more. It reports false if the connection can't be parked and still is the caller's.
//
// Bytes that come at this moment are not missed: epoll tells of what is there, not of what changes.
func (p *parking) park(a *acceptedConn, until instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	var err error
	closed := a.link.raw.Control(func(fd uintptr) {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
		if err = p.control(unix.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
			return // Out of memory, or the system's limit of watched descriptors.
		}
		if n := int(fd) + 1 - len(p.slots); n > 0 {
			p.slots = append(p.slots, make([]slot, n)...)
		}
		p.slots[fd] = slot{a, until}
		p.count++
	})
	return closed == nil && err == nil
}

// control changes the set of watched descriptors.
func (p *parking) control(op, fd int, ev *unix.EpollEvent) (err error) {
	if closed := p.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, ev) }); closed != nil {
		return closed
	}
	return err
}

// take returns the connection that is parked under a descriptor, nil if none is. p.mu is held.
func (p *parking) take(fd int) *acceptedConn {
	if fd >= len(p.slots) || p.slots[fd].conn == nil {
		return nil
	}
	a := p.slots[fd].conn
	p.slots[fd] = slot{}
	p.count--
	_ = p.control(unix.EPOLL_CTL_DEL, fd, nil) // It fails if the descriptor was closed, and is right then.
	return a
}

// unpark takes a connection out of its slot. It reports false if somebody else has, who owns it then.
func (p *parking) unpark(a *acceptedConn) (taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = a.link.raw.Control(func(fd uintptr) {
		if int(fd) < len(p.slots) && p.slots[fd].conn == a {
			taken = p.take(int(fd)) != nil
		}
	})
	return taken
}

// parkEvents is how many sockets the watcher learns of at once.
const parkEvents = 128

// watch hands connections back to be served when their sockets have something to read, if only their end.
//
// An event may be late: its connection is gone and another one is parked under the descriptor. That one is served
// too early then, finds nothing, and is parked again.
func (p *parking) watch() {
	defer close(p.done)
	events := make([]unix.EpollEvent, parkEvents)
	var n int
	ready := func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), events, 0)
		return err == nil && n > 0
	}
	for p.raw.Read(ready) == nil {
		for _, ev := range events[:n] {
			p.mu.Lock()
			a := p.take(int(ev.Fd))
			p.mu.Unlock()
			if a != nil {
				go p.serve(a)
			}
		}
	}
}

// sweepSlots is how many slots are looked at without letting go of the lock.
const sweepSlots = 4096

// sweep ends the connections whose idle limit has come.
func (p *parking) sweep(t instant) {
	p.each(func(s slot) bool { return s.until <= t }, (*acceptedConn).expire)
}

// cut closes every parked connection.
func (p *parking) cut() {
	p.each(func(slot) bool { return true }, (*acceptedConn).end)
}

// each takes the connections in slots for which want holds, and gives them to end.
func (p *parking) each(want func(slot) bool, end func(*acceptedConn)) {
	var taken []*acceptedConn
	for from, more := 0, true; more; from += sweepSlots {
		p.mu.Lock()
		to := min(from+sweepSlots, len(p.slots))
		for fd := from; fd < to; fd++ {
			if p.slots[fd].conn != nil && want(p.slots[fd]) {
				taken = append(taken, p.take(fd))
			}
		}
		more = to < len(p.slots)
		p.mu.Unlock()
		for _, a := range taken {
			end(a)
		}
		taken = taken[:0]
	}
}

// parked returns how many connections are parked.
func (p *parking) parked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// close ends the watcher. Nothing can be parked any more; what is parked stays so until it is cut.
func (p *parking) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.epoll.Close() // The watcher's wait ends.
	<-p.done
}
