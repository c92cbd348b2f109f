package redistest

import (
	"errors"
	"fmt"
	"time"
)

// errDown is returned for a command to a server that was killed and not restarted.
var errDown = errors.New("the server is down")

// Do runs one command and returns its reply in the forms that Client names; it fails the test on
// an error reply or a broken connection.
func (s *Server) Do(args ...string) any {
	s.helper()
	v, err := s.Try(args...)
	if err != nil {
		s.fatalf("%v: %v", args, err)
	}
	return v
}

// Try is Do for goroutines beside the test's own: the error comes back.
func (s *Server) Try(args ...string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil, errDown
	}
	if s.client == nil {
		c, err := s.dial()
		if err != nil {
			return nil, err
		}
		s.client = c
	}
	v, err := s.client.Do(args...)
	if err != nil && !errors.As(err, new(Error)) {
		// After a broken read the stream is out of step; the next command dials anew.
		_ = s.client.Close()
		s.client = nil
	}
	return v, err
}

// Text is Do for a command that answers with one string; a missing value is "".
func (s *Server) Text(args ...string) string {
	s.helper()
	switch v := s.Do(args...).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		s.fatalf("%v: reply is %T, not a string", args, v)
		return ""
	}
}

// Int is Do for a command that answers with a number.
func (s *Server) Int(args ...string) int64 {
	s.helper()
	n, ok := s.Do(args...).(int64)
	if !ok {
		s.fatalf("%v: reply is not a number", args)
	}
	return n
}

// Strings is Do for a command that answers with a list of strings; a missing value is nil.
func (s *Server) Strings(args ...string) []string {
	s.helper()
	values, ok := s.Do(args...).([]any)
	if !ok {
		return nil
	}
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = fmt.Sprint(v)
	}
	return list
}

// Connect opens a further connection that ends with the test, for pipelines, SUBSCRIBE or MONITOR.
func (s *Server) Connect() *Client {
	s.helper()
	c, err := s.dial()
	if err != nil {
		s.fatalf("connect: %v", err)
	}
	if s.t != nil {
		s.t.Cleanup(func() { _ = c.Close() })
	}
	return c
}

// Load sends the commands that produce yields in one pipeline and fails the test on the first
// error reply. It seeds a million keys in seconds.
func (s *Server) Load(produce func(yield func(args ...string))) {
	s.helper()
	c := s.Connect()
	defer c.Close()
	const window = 1000 // replies outstanding, so that neither side's buffer fills up
	var first error
	pending := 0
	drain := func() {
		for ; pending > 0 && first == nil; pending-- {
			_, first = c.Receive(replyTimeout)
		}
	}
	produce(func(args ...string) {
		if first != nil {
			return
		}
		if first = c.Send(args...); first == nil {
			pending++
		}
		if pending == window {
			drain()
		}
	})
	drain()
	if first != nil {
		s.fatalf("load: %v", first)
	}
}

// Subscribe listens on a channel until the test ends and returns its messages in order. A reader
// that falls more than 1024 messages behind loses the newest.
func (s *Server) Subscribe(channel string) <-chan string {
	s.helper()
	c := s.Connect()
	if _, err := c.Do("SUBSCRIBE", channel); err != nil {
		s.fatalf("subscribe to %s: %v", channel, err)
	}
	messages := make(chan string, 1024)
	go func() {
		defer close(messages)
		for {
			v, err := c.Receive(time.Hour)
			if err != nil {
				return // The connection was closed by the test's end or the server's death.
			}
			if m, ok := v.([]any); ok && len(m) == 3 {
				select {
				case messages <- fmt.Sprint(m[2]):
				default:
				}
			}
		}
	}()
	return messages
}
