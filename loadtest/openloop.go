package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// openLoop sends requests at a fixed rate, whatever the answers do. The i-th request is due at
// i/rate; if no connection is free then, it waits, and its latency counts from when it was due: a
// proxy that stalls is charged for all that it keeps waiting, not for the one request that it
// happens to hold (the correction for coordinated omission).
//
// It is one thread on one epoll, as wrk is, because the generator shares the cores with what it
// measures. With a rate of 0 it sends whenever a connection is free: a closed loop, for the capacity
// that there is with this generator.
type openLoop struct {
	request []byte
	answer  int // bytes of one whole answer; all have the same length
	epoll   int
	timer   int
	conns   []loopConn
	free    idleQueue // connections without a request under way
	broken  int64
	charged int64 // requests that were due and have no answer
	buf     []byte
	latency *hdrhistogram.Histogram
	start   time.Time
	end     time.Time
	rate    float64
	sent    int // requests so far; also the number of the next one
}

// idleQueue is a ring of connections: the one that has rested longest is used next, so that all are
// used alike.
type idleQueue struct {
	ring  []int
	first int
	n     int
}

func (q *idleQueue) push(i int) {
	q.ring[(q.first+q.n)%len(q.ring)] = i
	q.n++
}

func (q *idleQueue) pop() int {
	i := q.ring[q.first]
	q.first = (q.first + 1) % len(q.ring)
	q.n--
	return i
}

// loopConn is one connection and its request under way.
type loopConn struct {
	fd  int
	got int       // bytes of the answer so far
	due time.Time // of the request
}

// drainTime is how long answers under way may take at the end.
const drainTime = 2 * time.Second

// runOpenLoop sends small requests to the contestant at the given rate, 0 for as fast as answers
// come, and reports as wrk does. Requests that were due and never sent, or never answered, count
// with the time that they have waited. Every connection has been used when started is called, right
// before the first request that counts.
func runOpenLoop(to string, w work, connections int, rate float64, duration time.Duration, started func() error,
) (report, error) {
	where, err := url.Parse(to)
	if err != nil {
		return report{}, err
	}
	l := &openLoop{
		request: []byte("GET " + w.path + " HTTP/1.1\r\nHost: " + hostName(0) + "\r\n\r\n"),
		epoll:   -1, timer: -1, buf: make([]byte, 64<<10), latency: newHistogram(), rate: rate,
	}
	defer l.close()
	if l.answer, err = answerBytes(where.Host, l.request); err != nil {
		return report{}, err
	}
	if err := l.open(where.Host, connections); err != nil {
		return report{}, err
	}
	runtime.LockOSThread() // The timer's slack is the thread's.
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return report{}, fmt.Errorf("set timer slack: %w", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // Back to the system's.
	if err := l.useAll(); err != nil {
		return report{}, err
	}
	if w.clients > 0 {
		// To use each of thousands takes so long that the first ones have been put to rest meanwhile.
		if err := l.run(warmUpTime); err != nil {
			return report{}, err
		}
		l.forget()
	}
	if err := started(); err != nil {
		return report{}, err
	}
	if err := l.run(duration); err != nil {
		return report{}, err
	}
	r := reportOf(l.latency, duration)
	r.Errors.Read = l.broken
	r.Unanswered = l.charged
	if r.Requests == r.Unanswered {
		return report{}, errors.New("open loop: no request was answered")
	}
	return r, nil
}

// useAll sends a request on one connection after another. What it finds does not count.
func (l *openLoop) useAll() error {
	events := make([]unix.EpollEvent, 1)
	for range l.conns {
		l.send(time.Now())
		for limit := time.Now().Add(answerTimeout); l.free.n < len(l.conns); {
			if l.broken > 0 || time.Now().After(limit) {
				return errors.New("open loop: a connection does not answer its first request")
			}
			if err := l.wait(events, limit); err != nil {
				return err
			}
		}
	}
	l.forget()
	return nil
}

// forget begins to count anew.
func (l *openLoop) forget() {
	l.latency.Reset()
	l.sent, l.charged = 0, 0
}

// answerBytes sends the request once and returns the length of its answer.
func answerBytes(addr string, request []byte) (int, error) {
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	counted := &counter{r: conn}
	resp, err := http.ReadResponse(bufio.NewReader(counted), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return 0, fmt.Errorf("status %d, length %d: want 200 and a length", resp.StatusCode, resp.ContentLength)
	}
	return counted.n, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// open makes the connections and the epoll that waits for them and for the timer.
func (l *openLoop) open(addr string, connections int) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("open loop: %w", err)
	}
	l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("open loop: %w", err)
	}
	if err := l.watch(l.timer, timerPlace); err != nil {
		return err
	}
	l.free.ring = make([]int, connections)
	for i := range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open loop: %w", err)
		}
		l.conns = append(l.conns, loopConn{fd: fd})
		l.free.push(i)
		err = errors.Join(
			unix.Connect(fd, &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}}),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetNonblock(fd, true),
			l.watch(fd, int32(i)))
		if err != nil {
			return fmt.Errorf("open loop: connect to %s: %w", addr, err)
		}
	}
	return nil
}

// timerPlace stands for the timer where others have the number of their connection.
const timerPlace = -1

func (l *openLoop) watch(fd int, place int32) error {
	// Edge-triggered, so that a timer that went off need not be read.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: place}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("open loop: %w", err)
	}
	return nil
}

func (l *openLoop) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd) // Nothing is expected of it any more.
	}
	for _, fd := range []int{l.epoll, l.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// due is when the next request is to be sent.
func (l *openLoop) due(now time.Time) time.Time {
	if l.rate == 0 {
		return now
	}
	return l.start.Add(time.Duration(float64(l.sent) / l.rate * float64(time.Second)))
}

// run sends for a time, then waits for what is under way.
func (l *openLoop) run(duration time.Duration) error {
	l.start = time.Now()
	l.end = l.start.Add(duration)
	events := make([]unix.EpollEvent, 128)
	for {
		now := time.Now()
		if !now.Before(l.end) {
			break
		}
		next := l.due(now)
		for l.free.n > 0 && !next.After(now) && next.Before(l.end) {
			l.send(next)
			next = l.due(now)
		}
		if l.free.n+int(l.broken) == len(l.conns) && l.free.n == 0 {
			return errors.New("open loop: every connection broke")
		}
		until := l.end
		if l.free.n > 0 && next.Before(until) {
			until = next
		}
		if err := l.wait(events, until); err != nil {
			return err
		}
	}
	for limit := l.end.Add(drainTime); l.free.n+int(l.broken) < len(l.conns) && time.Now().Before(limit); {
		if err := l.wait(events, limit); err != nil {
			return err
		}
	}
	l.chargeRest()
	return nil
}

// chargeRest counts the requests that were due and have no answer.
func (l *openLoop) chargeRest() {
	busy := make([]bool, len(l.conns))
	for i := range busy {
		busy[i] = l.conns[i].fd >= 0
	}
	for range l.free.n { // Each of them is put back: there may be another run.
		i := l.free.pop()
		busy[i] = false
		l.free.push(i)
	}
	for i, c := range l.conns {
		if busy[i] {
			count(l.latency, time.Since(c.due))
			l.charged++
		}
	}
	for l.rate > 0 && l.due(l.end).Before(l.end) {
		count(l.latency, l.end.Sub(l.due(l.end)))
		l.charged++
		l.sent++
	}
}

// send writes the next request on a free connection.
func (l *openLoop) send(due time.Time) {
	place := l.free.pop()
	c := &l.conns[place]
	c.got, c.due = 0, due
	l.sent++
	// A request is far smaller than a socket's buffer, which is empty here.
	if n, err := unix.Write(c.fd, l.request); err != nil || n != len(l.request) {
		l.breakOff(c)
	}
}

// breakOff gives a connection up, with its request.
func (l *openLoop) breakOff(c *loopConn) {
	_ = unix.Close(c.fd) // It is of no use any more.
	c.fd = -1
	l.broken++
}

// wait sleeps until something can be read, or until the given time, and reads.
func (l *openLoop) wait(events []unix.EpollEvent, until time.Time) error {
	left := max(time.Until(until), 1)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(left.Nanoseconds())}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("open loop: set timer: %w", err)
	}
	n, err := unix.EpollWait(l.epoll, events, -1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("open loop: wait: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		if event.Fd != timerPlace {
			l.receive(int(event.Fd))
		}
	}
	return nil
}

// receive reads what a connection has until there is no more.
func (l *openLoop) receive(place int) {
	c := &l.conns[place]
	for c.fd >= 0 {
		n, err := unix.Read(c.fd, l.buf)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		begins := c.got > 0 || n >= len(okStatus) && bytes.Equal(l.buf[:len(okStatus)], okStatus)
		if err != nil || n <= 0 || !begins || c.got+n > l.answer {
			l.breakOff(c)
			return
		}
		if c.got += n; c.got == l.answer {
			count(l.latency, time.Since(c.due))
			l.free.push(place)
			return // The answer was all that can be there.
		}
	}
}

// okStatus begins every good answer.
var okStatus = []byte("HTTP/1.1 200 ")
