package backendtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Script is what a scripted backend plays on each connection.
type Script struct {
	*Backend

	mu       sync.Mutex
	received []*Request
	faults   []error
}

// Received are the requests that the steps have read so far, in the order in which they came.
func (s *Script) Received() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Request(nil), s.received...)
}

// Faults are the steps that failed: an unexpected end, a malformed request, a check that did not
// hold. Ordinary ends between two requests do not count.
func (s *Script) Faults() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]error(nil), s.faults...)
}

// Step is one act of a scripted backend. An error ends the connection and is kept as a fault.
type Step func(*Script, *Conn) error

// errEnd ends a connection without a fault.
var errEnd = errors.New("end of script")

// Scripted plays steps on every connection, from the first step each time, and closes it after the
// last.
func Scripted(t T, steps ...Step) *Script {
	t.Helper()
	return ScriptedEach(t, func(int) []Step { return steps })
}

// ScriptedEach plays the steps that choose returns for the connection of that index (from 0).
func ScriptedEach(t T, choose func(conn int) []Step) *Script {
	t.Helper()
	s := &Script{}
	s.Backend = Raw(t, func(c *Conn) {
		for i, step := range choose(c.Index) {
			err := step(s, c)
			if errors.Is(err, errEnd) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				s.fault(fmt.Errorf("connection %d, step %d: %w", c.Index, i, err))
				return
			}
		}
	})
	return s
}

func (s *Script) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}

// Head reads a request's head and leaves its body unread.
func Head(checks ...func(*Request) error) Step {
	return read((*Conn).ReadHead, checks)
}

// Whole reads a whole request.
func Whole(checks ...func(*Request) error) Step {
	return read((*Conn).ReadRequest, checks)
}

func read(f func(*Conn) (*Request, error), checks []func(*Request) error) Step {
	return func(s *Script, c *Conn) error {
		q, err := f(c)
		if q != nil {
			s.mu.Lock()
			s.received = append(s.received, q)
			s.mu.Unlock()
		}
		if err != nil {
			return err
		}
		for _, check := range checks {
			if err := check(q); err != nil {
				return fmt.Errorf("check %s %s: %w", q.Method, q.Target, err)
			}
		}
		return nil
	}
}

// Bytes reads n raw bytes, such as a body behind Head.
func Bytes(n int64) Step {
	return func(_ *Script, c *Conn) error {
		_, err := io.CopyN(io.Discard, c, n)
		return unexpectedEOF(err)
	}
}

// Send writes raw bytes.
func Send(s string) Step { return SendTimes(s, 1) }

// SendTimes writes raw bytes n times over.
func SendTimes(s string, n int) Step {
	all := strings.Repeat(s, n)
	return func(_ *Script, c *Conn) error {
		_, err := c.WriteString(all)
		return err
	}
}

// Wait lets d pass.
func Wait(d time.Duration) Step {
	return func(_ *Script, c *Conn) error {
		c.Sleep(d)
		return nil
	}
}

// WaitEnd waits until the peer ends the connection, with FIN or RST; more bytes from it, or its
// silence for longer than d, is a fault.
func WaitEnd(d time.Duration) Step {
	return func(_ *Script, c *Conn) error {
		if err := c.tcp.SetReadDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		b, err := c.r.ReadByte()
		if err == nil {
			return fmt.Errorf("wait for the end of the connection: got byte %q", b)
		}
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return fmt.Errorf("wait for the end of the connection: still open after %v", d)
		}
		return errEnd
	}
}

// CloseWrite sends a FIN and goes on.
func CloseWrite() Step {
	return func(_ *Script, c *Conn) error { return c.CloseWrite() }
}

// Close ends the connection with a FIN.
func Close() Step {
	return func(_ *Script, c *Conn) error { return errors.Join(c.Close(), errEnd) }
}

// Reset ends the connection with a RST.
func Reset() Step {
	return func(_ *Script, c *Conn) error { return errors.Join(c.Reset(), errEnd) }
}

// EchoBytes sends back whatever comes until the peer's FIN, and ends the connection.
func EchoBytes() Step {
	return func(_ *Script, c *Conn) error {
		_, err := io.Copy(c.tcp, c.r)
		return errors.Join(err, errEnd)
	}
}

// Loop plays steps again and again until one of them ends the connection: a keep-alive backend.
func Loop(steps ...Step) Step {
	return func(s *Script, c *Conn) error {
		for {
			for _, step := range steps {
				if err := step(s, c); err != nil {
					return err
				}
			}
		}
	}
}
