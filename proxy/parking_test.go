package proxy_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// parkSoon parks connections as soon as a test can tell.
func parkSoon(s *setup) { s.park = 20 * time.Millisecond }

// awaitParked waits until n connections are parked.
func (e *edge) awaitParked(n int) {
	e.t.Helper()
	e.awaitMetric("sluice_connections_parked", float64(n))
}

// A connection that was parked is served as before: its client's address, what a PROXY header said, pipelined requests,
// empty lines between them, and that over TLS.
func TestParking_GoesOn(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	cert := backendtest.SelfSigned(t, "edge.example")
	for _, tt := range []struct {
		name   string
		change func(*setup)
		tls    bool
		header string
		client string
	}{
		{"plain", func(*setup) {}, false, "", "127.0.0.1"},
		{"tls", overTLS(cert), true, "", "127.0.0.1"},
		{"proxy protocol", announced, false, "PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n", "203.0.113.9"},
	} {
		e := newEdge(t, one("a.example", b.URL()), parkSoon, tt.change)
		var c *client
		if tt.tls {
			c = e.dialTLS(cert.Roots, tls.VersionTLS13)
		} else {
			c = e.dial()
		}
		c.send(tt.header)
		for i := range 3 {
			c.send(strings.Repeat("\r\n", i%2) + request("GET", "/1", "a.example") + request("POST", "/2", "a.example", "Content-Length: 3") + "abc")
			for _, method := range []string{"GET", "POST"} {
				if got := c.answer(method).echoed(t).Value("X-Forwarded-For"); got != tt.client {
					t.Errorf("%s, round %d: X-Forwarded-For %q, want %q", tt.name, i, got, tt.client)
				}
			}
			e.awaitParked(1)
		}
		if n := e.metric("sluice_connections"); n != 1 {
			t.Errorf("%s: %v connections are open, want the parked one", tt.name, n)
		}
	}
}

// A parked client that leaves, in whatever way, leaves nothing behind.
func TestParking_ClientLeaves(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), parkSoon, func(s *setup) { s.MaxConnectionsPerIP = 3 })
	leave := []func(*client){
		func(c *client) { _ = c.Close() },
		func(c *client) { c.reset() },
		func(c *client) { c.closeWrite(); c.wantEnd() },
	}
	for range 3 { // The places under MaxConnectionsPerIP come back.
		var open []*client
		for range leave {
			c := e.dial()
			c.wantAlive("a.example")
			open = append(open, c)
		}
		e.awaitParked(len(leave))
		for i, f := range leave {
			f(open[i])
		}
		e.awaitParked(0)
		e.awaitMetric("sluice_connections", 0)
	}
}

// Parked connections count under the limits.
func TestParking_CountsUnderLimits(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), parkSoon, func(s *setup) { s.MaxConnectionsPerIP = 1 })
	first := e.dial()
	first.wantAlive("a.example")
	e.awaitParked(1)
	e.dial().wantEnd()
	first.wantAlive("a.example")
	full := newEdge(t, one("a.example", b.URL()), parkSoon, func(s *setup) { s.MaxConnections = 1 })
	first = full.dial()
	first.wantAlive("a.example")
	full.awaitParked(1)
	second := full.dial()
	second.send(request("GET", "/", "a.example"))
	second.wantSilence(200 * time.Millisecond)
	_ = first.Close()
	if a := second.answer("GET"); a.StatusCode != 200 {
		t.Errorf("%d after the parked connection has gone, want 200", a.StatusCode)
	}
}

// The time for the next request goes on while a connection is parked, and empty lines do not lengthen it.
func TestParking_IdleLimits(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	cert := backendtest.SelfSigned(t, "edge.example")
	short := func(s *setup) { s.IdleTimeout, s.HeaderTimeout = 700*time.Millisecond, 300*time.Millisecond }
	plain := newEdge(t, one("a.example", b.URL()), parkSoon, short)
	secure := newEdge(t, one("a.example", b.URL()), parkSoon, short, overTLS(cert))
	start := time.Now()
	used := func(c *client) *client { c.wantAlive("a.example"); return c }
	dripping := used(plain.dial())
	go func() {
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if _, err := io.WriteString(dripping, "\r\n"); err != nil {
				return
			}
		}
	}()
	var all sync.WaitGroup
	for _, tt := range []struct {
		name string
		c    *client
		min  time.Duration
	}{
		{"used", used(plain.dial()), 600 * time.Millisecond},
		{"used, with empty lines", dripping, 600 * time.Millisecond},
		{"never used", plain.dial(), 200 * time.Millisecond},
		{"used, over TLS", used(secure.dialTLS(cert.Roots, tls.VersionTLS13)), 600 * time.Millisecond},
	} {
		all.Go(func() {
			tt.c.wantEnd()
			if d := time.Since(start); d < tt.min || d > 5*time.Second {
				t.Errorf("%s: ended after %v, want %v and the second of a sweep at most", tt.name, d, tt.min)
			}
		})
	}
	all.Wait()
	plain.awaitMetric("sluice_connections", 0)
	secure.awaitMetric("sluice_connections", 0)
}

// A drain leaves parked connections open for the request that may be on its way, answers it, and ends with the last of
// them; or cuts them.
func TestParking_Drain(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), parkSoon)
	parked, left := e.dial(), e.dial()
	parked.wantAlive("a.example")
	left.wantAlive("a.example")
	e.awaitParked(2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.shutdown(ctx) }()
	eventually(t, "the end of accepting", func() bool { return refuses(e.addr) })
	parked.wantSilence(100 * time.Millisecond)
	if a := parked.do("GET", "/", "a.example"); a.StatusCode != 200 || !a.Close {
		t.Errorf("got %d, close %v; want 200 and the connection's end", a.StatusCode, a.Close)
	}
	parked.wantEnd()
	left.wantEnd()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v, want the context's error", err)
	}
	if n := e.metric("sluice_connections"); n != 0 {
		t.Errorf("%v connections after the end", n)
	}
}

// Requests that come just when their connection is being parked are neither lost nor changed.
func TestParking_NoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	const clients, rounds, after = 40, 60, 5 * time.Millisecond
	b := backendtest.Echo(t, "b")
	cert := backendtest.SelfSigned(t, "edge.example")
	park := func(s *setup) { s.park = after }
	plain, secure := newEdge(t, one("a.example", b.URL()), park), newEdge(t, one("a.example", b.URL()), park, overTLS(cert))
	var all sync.WaitGroup
	for i := range clients {
		var c *client
		if i%4 == 0 {
			c = secure.dialTLS(cert.Roots, tls.VersionTLS13)
		} else {
			c = plain.dial()
		}
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for round := range rounds {
				if err := askAtParking(c, rnd, fmt.Sprintf("%d-%d", i, round), after); err != nil {
					t.Errorf("client %d, round %d: %v", i, round, err)
					return
				}
			}
		})
	}
	all.Wait()
	plain.awaitParked(clients - clients/4)
	secure.awaitParked(clients / 4)
}

// askAtParking rests for about as long as it takes to be parked, and sends some requests, maybe in pieces with a rest
// between them.
func askAtParking(c *client, rnd *rand.Rand, name string, after time.Duration) error {
	time.Sleep(time.Duration(rnd.Int64N(int64(2 * after))))
	n := 1 + rnd.IntN(3)
	var text strings.Builder
	bodies := make([]string, n)
	for k := range n {
		body := strings.Repeat(string(rune('a'+rnd.IntN(26))), rnd.IntN(3000))
		bodies[k] = body
		text.WriteString(request("POST", fmt.Sprintf("/%s-%d", name, k), "a.example", fmt.Sprintf("Content-Length: %d", len(body))) + body)
	}
	for rest := text.String(); len(rest) > 0; {
		piece := rest[:1+rnd.IntN(len(rest))]
		if rnd.IntN(3) > 0 {
			piece = rest
		}
		if _, err := io.WriteString(c, piece); err != nil {
			return err
		}
		if rest = rest[len(piece):]; len(rest) > 0 {
			time.Sleep(time.Duration(rnd.Int64N(int64(2 * after))))
		}
	}
	for k := range n {
		a, err := readAnswer(c.r, "POST")
		if err != nil {
			return err
		}
		got, err := backendtest.ParseEcho([]byte(a.body))
		if err != nil {
			return fmt.Errorf("answer %d %q: %w", a.StatusCode, a.body, err)
		}
		want, sum := fmt.Sprintf("/%s-%d", name, k), fmt.Sprintf("%x", sha256.Sum256([]byte(bodies[k])))
		if got.Target != want || got.BodySHA256 != sum {
			return fmt.Errorf("answer of %s with a body of %d bytes, want that of %s with %d", got.Target, got.BodyBytes, want, len(bodies[k]))
		}
	}
	return nil
}
