package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// StartGate runs a proxy in front of a server until the test ends and returns its address. refuse is
// asked about each command, its words in capitals with one space between, and names the error reply
// that the gate gives itself; "" lets the command through. It stands for servers that are older, or
// proxies that know less.
func StartGate(t testing.TB, s *Server, refuse func(command string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: start gate: %v", err)
	}
	g := &gate{refuse: refuse, conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		_ = l.Close()
		g.close()
	})
	g.runs.Go(func() { g.accept(l, s, g.join) })
	return l.Addr().String()
}

type gate struct {
	refuse func(command string) string
	runs   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// accept joins each client of l with a connection of its own to the server, until l is closed at the end of the test.
func (g *gate) accept(l net.Listener, s *Server, join func(client, server net.Conn)) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.Addr())
		if err != nil {
			_ = client.Close() // as if the server itself had refused
			continue
		}
		join(client, server)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	for conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	g.runs.Wait()
}

// hold notes two connections that belong together; end closes both.
func (g *gate) hold(client, server net.Conn) (end func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[client], g.conns[server] = struct{}{}, struct{}{}
	return func() {
		_ = client.Close()
		_ = server.Close()
		g.mu.Lock()
		delete(g.conns, client)
		delete(g.conns, server)
		g.mu.Unlock()
	}
}

// refusalDelay is how long a refusal waits for the replies to commands before it. One that overtook them would be taken
// for the reply to another command.
const refusalDelay = 30 * time.Millisecond

// join copies both ways.
func (g *gate) join(client, server net.Conn) {
	end := g.hold(client, server)
	var writes sync.Mutex
	g.runs.Go(func() {
		defer end()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			writes.Lock()
			_, err = client.Write(buf[:n])
			writes.Unlock()
			if err != nil {
				return
			}
		}
	})
	g.runs.Go(func() {
		defer end()
		r := bufio.NewReader(client)
		for {
			raw, words, err := readCommand(r)
			if err != nil {
				return
			}
			if text := g.refuse(strings.ToUpper(strings.Join(words, " "))); text != "" {
				time.Sleep(refusalDelay)
				writes.Lock()
				_, err = fmt.Fprintf(client, "-%s\r\n", text)
				writes.Unlock()
			} else {
				_, err = server.Write(raw)
			}
			if err != nil {
				return
			}
		}
	})
}

// readCommand reads one command as clients send it, an array of strings.
func readCommand(r *bufio.Reader) (raw []byte, words []string, err error) {
	number := func(kind byte) (n int, err error) {
		line, err := r.ReadString('\n')
		raw = append(raw, line...)
		if err == nil {
			_, err = fmt.Sscanf(line, string(kind)+"%d\r\n", &n)
		}
		return n, err
	}
	count, err := number('*')
	for ; err == nil && count > 0; count-- {
		var length int
		if length, err = number('$'); err != nil {
			break
		}
		word := make([]byte, length+len("\r\n"))
		if _, err = io.ReadFull(r, word); err == nil {
			raw = append(raw, word...)
			words = append(words, string(word[:length]))
		}
	}
	return raw, words, err
}
