package httpcases

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// defaultWindow is how long a client reads on after its last step.
	defaultWindow = 250 * time.Millisecond
	// untilLimit bounds an until step.
	untilLimit = 400 * time.Millisecond
	// patience is how much longer than its window a case may take on a slow machine.
	patience = 10 * time.Second
	// lagLimit is how much longer a wait may take until the backend has done what it should have by then. A request of
	// which a part is held back meanwhile costs as much.
	lagLimit = 500 * time.Millisecond
	// ioLimit bounds a dial or a blocked write of the client; it is never met by a sound proxy.
	ioLimit = 10 * time.Second
)

// client is the client's side of one case.
type client struct {
	front  string
	play   *Case
	behind func() bool // the backend is
	conns  []*clientConn
}

// got is what the client received.
type got struct {
	statuses []int
	whole    bool
	fault    string // why whole is false
	bytes    text   // over all connections
	closed   bool   // the last connection ended by itself
	// Times of the last connection, from its opening.
	first   time.Duration // to the first byte; 0 if none came
	arrived map[text]time.Duration
}

// run plays the steps, reads until the window is over, and closes. Where satisfied is not told what it wants to hear,
// the machine may be slow: the client then goes on for a while, on both sides of its close.
func (c *client) run(satisfied func(got) bool) (got, error) {
	defer c.close()
	if err := c.open(); err != nil {
		return got{}, err
	}
	for _, step := range c.play.Client {
		if err := c.act(step); err != nil {
			return got{}, err
		}
	}
	window := defaultWindow
	if c.play.WindowMS > 0 {
		window = milliseconds(c.play.WindowMS)
	}
	select {
	case <-c.last().done:
	case <-time.After(window):
	}
	limit := time.Now().Add(patience)
	c.await(satisfied, limit)
	closed := c.ended()
	c.close()
	time.Sleep(10 * time.Millisecond) // The backend may still be reading what the proxy passed on last.
	g := c.await(func(g got) bool {
		g.closed = closed
		return satisfied(g)
	}, limit)
	g.closed = closed
	return g, nil
}

// await collects what came until it satisfies, or until limit.
func (c *client) await(satisfied func(got) bool, limit time.Time) got {
	for ; ; time.Sleep(10 * time.Millisecond) {
		g := c.collect(c.ended())
		if satisfied(g) || time.Now().After(limit) {
			return g
		}
	}
}

// ended tells whether the last connection has ended.
func (c *client) ended() bool {
	select {
	case <-c.last().done:
		return true
	default:
		return false
	}
}

func (c *client) last() *clientConn { return c.conns[len(c.conns)-1] }

func (c *client) open() error {
	conn, err := net.DialTimeout("tcp4", c.front, ioLimit)
	if err != nil {
		return fmt.Errorf("connect to the proxy: %w", err)
	}
	cc := &clientConn{
		TCPConn: conn.(*net.TCPConn), opened: time.Now(), done: make(chan struct{}),
		arrived: map[text]time.Duration{},
	}
	for t := range c.play.WantClient.ArrivesMS {
		cc.awaited = append(cc.awaited, t)
	}
	c.conns = append(c.conns, cc)
	go cc.read()
	return nil
}

// close ends all connections and waits for their readers.
func (c *client) close() {
	for _, cc := range c.conns {
		_ = cc.Close() // Some have been closed by a step.
		<-cc.done
	}
}

// act plays one step. A failed write is no error: the proxy may answer and close early.
func (c *client) act(step Step) error {
	cc := c.last()
	switch step.verb {
	case verbSend:
		cc.noteMethods(step.text)
		cc.send(string(step.text))
	case verbRepeat:
		cc.send(strings.Repeat(string(step.text), step.n))
	case verbBulk:
		go cc.send(strings.Repeat("z", step.n))
	case verbWait:
		time.Sleep(milliseconds(step.n))
		for start := time.Now(); time.Since(start) < lagLimit && c.behind(); {
			time.Sleep(5 * time.Millisecond)
		}
	case verbFIN:
		_ = cc.CloseWrite() // It fails if the proxy was first.
	case verbClose:
		_ = cc.Close() // It fails if the proxy was first.
	case verbUntil:
		for start := time.Now(); time.Since(start) < untilLimit && !cc.has(step.text); {
			time.Sleep(5 * time.Millisecond)
		}
	case verbNew:
		return c.open()
	}
	return nil
}

// collect parses what came on all connections.
func (c *client) collect(closed bool) got {
	g := got{whole: true, closed: closed}
	g.first, g.arrived = c.last().times()
	for _, cc := range c.conns {
		methods := cc.methods
		if m := c.play.WantClient.Methods; m != nil {
			methods = m
		}
		received := cc.copied()
		statuses, err := answers(received, methods)
		g.statuses = append(g.statuses, statuses...)
		g.bytes += text(received)
		if err != nil {
			g.whole, g.fault = false, err.Error()
		}
	}
	if len(g.statuses) == 0 {
		g.whole = false
	}
	return g
}

// answers are the statuses found in the bytes of one connection, which answer requests of methods
// (GET where these end); the error is the first thing that makes an answer incomplete. What follows
// a 101 is not HTTP.
func answers(received []byte, methods []string) (statuses []int, err error) {
	r := bufio.NewReader(bytes.NewReader(received))
	final := 0 // answers so far, without 1xx
	for {
		if _, err := r.Peek(1); err != nil {
			return statuses, nil
		}
		method := http.MethodGet
		if final < len(methods) {
			method = methods[final]
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return statuses, fmt.Errorf("read head: %w", err)
		}
		statuses = append(statuses, resp.StatusCode)
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return statuses, nil
		case resp.StatusCode < 200:
			continue
		}
		final++
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return statuses, fmt.Errorf("read body: %w", err)
		}
	}
}

// clientConn is one connection to the proxy with a reader of its own.
type clientConn struct {
	*net.TCPConn
	opened  time.Time
	awaited []text        // whose arrival is timed
	done    chan struct{} // closed when the connection has ended
	methods []string      // of the requests sent

	mu       sync.Mutex
	received bytes.Buffer
	first    time.Duration // from opened to the first byte; 0 if none came
	arrived  map[text]time.Duration
}

func (cc *clientConn) read() {
	defer close(cc.done)
	buf := make([]byte, 1<<20)
	for {
		n, err := cc.Read(buf)
		cc.note(buf[:n])
		if err != nil {
			return
		}
	}
}

func (cc *clientConn) note(p []byte) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	since := time.Since(cc.opened)
	cc.received.Write(p)
	if len(p) > 0 && cc.first == 0 {
		cc.first = since
	}
	for _, t := range cc.awaited {
		if _, ok := cc.arrived[t]; !ok && bytes.Contains(cc.received.Bytes(), []byte(t)) {
			cc.arrived[t] = since
		}
	}
}

// times returns when the first byte and the awaited texts came.
func (cc *clientConn) times() (first time.Duration, arrived map[text]time.Duration) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.first, maps.Clone(cc.arrived)
}

// copied is what came so far.
func (cc *clientConn) copied() []byte {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return bytes.Clone(cc.received.Bytes())
}

func (cc *clientConn) has(t text) bool {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return bytes.Contains(cc.received.Bytes(), []byte(t))
}

func (cc *clientConn) send(s string) {
	_ = cc.SetWriteDeadline(time.Now().Add(ioLimit)) // It fails on a closed connection only.
	_, _ = io.WriteString(cc.TCPConn, s)             // The proxy may answer and close early.
}

// noteMethods finds request lines in what is sent, to know how their answers are framed.
func (cc *clientConn) noteMethods(sent text) {
	for line := range strings.SplitSeq(string(sent), "\n") {
		method, _, ok := strings.Cut(line, " ")
		if ok && method != "" && strings.Contains(line, "HTTP/1.") && !strings.HasPrefix(line, "HTTP/") {
			cc.methods = append(cc.methods, method)
		}
	}
}
