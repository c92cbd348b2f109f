package httpcases

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// shortAnswer is what a request gets that the case has no answer for.
const shortAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Backend listens for the proxy under test and plays the backend's side of one case at a time.
type Backend struct {
	ln net.Listener

	mu      sync.Mutex
	running *scene // nil between cases: connections are closed at once
}

// Listen starts a backend on addr, "127.0.0.1:0" for a free port. The caller closes it.
func Listen(addr string) (*Backend, error) {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, err
	}
	b := &Backend{ln: ln}
	go b.accept()
	return b, nil
}

// Addr is the address that the proxy's routes must point to.
func (b *Backend) Addr() string { return b.ln.Addr().String() }

// Close stops listening.
func (b *Backend) Close() error { return b.ln.Close() }

func (b *Backend) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		s := b.running
		b.mu.Unlock()
		if s == nil || !s.enter(c) {
			_ = c.Close() // Between two cases nobody is at home.
			continue
		}
		go s.serve(c)
	}
}

// begin lets the backend play c until end is called on the result.
func (b *Backend) begin(c *Case) *scene {
	s := &scene{play: c, over: make(chan struct{}), due: map[net.Conn]time.Time{}}
	b.mu.Lock()
	b.running = s
	b.mu.Unlock()
	return s
}

func (b *Backend) end(s *scene) {
	b.mu.Lock()
	b.running = nil
	b.mu.Unlock()
	s.end()
}

// scene is the backend's side of one case.
type scene struct {
	play *Case
	over chan struct{} // closed when the case is over: ends every wait

	mu       sync.Mutex
	conns    []net.Conn
	received bytes.Buffer // everything that came, over all connections, and marks for faults
	requests int
	bodies   int
	due      map[net.Conn]time.Time
	left     bool // wait_eof met the end of its connection
}

// seen is what a backend has noted so far.
type seen struct {
	requests, bodies, connections int
	received                      text
	clientLeft                    bool
}

func (s *scene) seen() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen{s.requests, s.bodies, len(s.conns), text(s.received.String()), s.left}
}

// enter registers a connection, unless the case is over.
func (s *scene) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
		return false
	default:
		s.conns = append(s.conns, c)
		return true
	}
}

func (s *scene) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.over)
	for _, c := range s.conns {
		_ = c.Close() // Most of them are closed already.
	}
}

// Write notes received bytes; it implements io.Writer and never fails.
func (s *scene) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received.Write(p)
}

func (s *scene) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(io.TeeReader(c, s), 1<<20)
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			if !isEnd(err) {
				fmt.Fprintf(s, "\n##malformed request: %v", err)
			}
			return
		}
		answer := s.answer()
		if len(answer) > 0 && answer[0].verb == verbEarly {
			answer = answer[1:]
		} else if !s.readBody(request.Body) {
			return
		}
		goesOn := s.playAnswer(answer, c, r)
		s.settle(c)
		if !goesOn {
			return
		}
	}
}

// playAnswer plays the steps of an answer and tells whether the connection goes on.
func (s *scene) playAnswer(answer []Step, c net.Conn, r *bufio.Reader) bool {
	due := time.Now()
	for _, step := range answer {
		switch step.verb {
		case verbWait:
			due = due.Add(milliseconds(step.n))
			s.expect(c, due)
		case verbEcho, verbEchoEOF, verbWaitEOF: // These last until the other side does something.
			s.settle(c)
		default:
			s.expect(c, due)
		}
		if !s.act(step, c, r) {
			return false
		}
	}
	return true
}

// expect notes when the next step on a connection should be done, settle that there is none.
func (s *scene) expect(c net.Conn, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[c] = at
}

func (s *scene) settle(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, c)
}

// behind tells whether a busy machine keeps the backend from a step that it should have played by now.
func (s *scene) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.due {
		if time.Now().After(at) {
			return true
		}
	}
	return s.requests == 0 && len(s.play.Backend) > 0 && !slices.Contains(s.play.WantBackend.Requests, 0)
}

// answer counts a request and returns the steps of its answer.
func (s *scene) answer() []Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.requests
	s.requests++
	if i < len(s.play.Backend) {
		return s.play.Backend[i]
	}
	return []Step{{verb: verbSend, text: shortAnswer}}
}

func (s *scene) readBody(body io.Reader) bool {
	if _, err := io.Copy(io.Discard, body); err != nil {
		fmt.Fprintf(s, "\n##malformed body: %v", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies++
	return true
}

// act plays one step and tells whether the connection goes on.
func (s *scene) act(step Step, c net.Conn, r *bufio.Reader) bool {
	switch step.verb {
	case verbSend:
		_, err := io.WriteString(c, string(step.text))
		return err == nil
	case verbRepeat:
		_, err := io.WriteString(c, strings.Repeat(string(step.text), step.n))
		return err == nil
	case verbWait:
		select {
		case <-time.After(milliseconds(step.n)):
			return true
		case <-s.over:
		}
	case verbReset:
		_ = c.(*net.TCPConn).SetLinger(0) // The close that follows sends a RST.
	case verbEcho:
		_, _ = io.Copy(c, r) // The tunnel ends with either side.
	case verbEchoEOF:
		_, _ = io.Copy(io.Discard, r)
		_, _ = io.WriteString(c, string(step.text))
	case verbWaitEOF:
		s.awaitEnd(c, r, milliseconds(step.n))
	}
	return false // As after verbClose.
}

func (s *scene) awaitEnd(c net.Conn, r *bufio.Reader, limit time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(limit)) // It fails on a closed connection only.
	_, err := r.ReadByte()
	timeout := net.Error(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = !errors.As(err, &timeout) || !timeout.Timeout()
}

// isEnd tells an ordinary end of a connection from a malformed request.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || strings.Contains(err.Error(), "closed") ||
		strings.Contains(err.Error(), "reset")
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
