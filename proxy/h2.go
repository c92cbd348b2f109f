package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// protoHTTP2 is the protocol's name in TLS (RFC 7301).
const protoHTTP2 = "h2"

// Limits of HTTP/2 that need no key. All memory that a connection's uploads may hold lies in its window.
const (
	h2ConnWindow   = 1 << 20   // Limit: bytes of uploads in flight on a connection
	h2StreamWindow = 512 << 10 // Limit: bytes of one upload in flight
	h2ReadFrame    = 16 << 10  // Limit: a frame from a client
	h2HeaderTable  = 4 << 10   // Limit: bytes of the compression table, each way
)

// h2Servers holds the library's servers: one for each configuration that connections were accepted under.
type h2Servers struct {
	mu      sync.Mutex
	current *h2Server
	retired []*h2Server          // of earlier configurations, while they have connections
	conns   map[*h2Conn]struct{} // those that are served
}

type h2Server struct {
	cfg   *Config
	http  *http.Server
	h2    h2Library
	conns int
}

// acquire returns the server for a configuration and counts a connection of it.
func (hs *h2Servers) acquire(s *Server, cfg *Config) (*h2Server, error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.current == nil || hs.current.cfg != cfg {
		made, err := newH2Server(s, cfg)
		if err != nil {
			return nil, err
		}
		if old := hs.current; old != nil && old.conns > 0 {
			hs.retired = append(hs.retired, old)
		}
		hs.current = made
	}
	hs.current.conns++
	return hs.current, nil
}

// release counts a connection out and forgets a server that has none left.
func (hs *h2Servers) release(h *h2Server) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.conns--; h.conns > 0 || h == hs.current {
		return
	}
	for i, r := range hs.retired {
		if r == h {
			hs.retired = append(hs.retired[:i], hs.retired[i+1:]...)
			return
		}
	}
}

// shutdown tells every connection's client to take its next requests elsewhere (GOAWAY). What runs goes on.
func (hs *h2Servers) shutdown(ctx context.Context) {
	hs.mu.Lock()
	all := append([]*h2Server(nil), hs.retired...)
	if hs.current != nil {
		all = append(all, hs.current)
	}
	hs.mu.Unlock()
	for _, h := range all {
		_ = h.http.Shutdown(ctx) // It has no listeners: this only calls what the library registered.
	}
}

func newH2Server(s *Server, cfg *Config) (*h2Server, error) {
	h := &h2Server{cfg: cfg}
	h.http = &http.Server{ //nolint:gosec // Heads are timed by the sweep, bodies by the stream.
		IdleTimeout:  cfg.IdleTimeout,
		WriteTimeout: streamWriteTime,
		// The library counts 32 bytes for each field. What exceeds this is refused by it; what does not, by us.
		MaxHeaderBytes: 2*cfg.MaxHeaderBytes + 32*cfg.MaxHeaderFields,
		ErrorLog:       log.New(h2Log{s.log}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          cfg.MaxStreams,
			MaxDecoderHeaderTableSize:     h2HeaderTable,
			MaxEncoderHeaderTableSize:     h2HeaderTable,
			MaxReadFrameSize:              h2ReadFrame,
			MaxReceiveBufferPerConnection: h2ConnWindow,
			MaxReceiveBufferPerStream:     h2StreamWindow,
			CountError:                    s.metrics.countH2Error,
		},
	}
	if err := h.h2.configure(h.http); err != nil {
		return nil, fmt.Errorf("set up http/2: %w", err)
	}
	return h, nil
}

// suitsHTTP2 reports whether a list of suites for TLS 1.2 holds one that HTTP/2 does not forbid (RFC 9113 §9.2.2); nil
// is Go's own choice. Go prefers these to others.
func suitsHTTP2(suites []uint16) bool {
	if suites == nil {
		return true
	}
	for _, s := range suites {
		switch s {
		case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
			return true
		}
	}
	return false
}

// serveH2 serves an accepted connection whose client chose HTTP/2.
func (s *Server) serveH2(a *acceptedConn, t *tls.Conn) {
	defer s.survive("connection", a.link.reset)
	state := t.ConnectionState()
	mux := newMuxConn(s, a.bind, a.link, a.addr, a.clientCertFields(), state.ServerName)
	c := &h2Conn{Conn: t, link: a.link, state: &state, mux: mux}
	c.meter.init(s)
	h, err := s.h2.acquire(s, s.config())
	if err != nil {
		s.log.Error("http/2 connection refused", "error", err)
		return
	}
	a.link.limitRead(0, 0)
	s.h2.add(c)
	s.metrics.h2Connections.Inc()
	defer func() {
		c.mux.end()
		s.h2.remove(c)
		s.h2.release(h)
	}()
	h.h2.serve(c, h.http)
}

func (hs *h2Servers) add(c *h2Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.conns == nil {
		hs.conns = make(map[*h2Conn]struct{})
	}
	hs.conns[c] = struct{}{}
}

func (hs *h2Servers) remove(c *h2Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.conns, c)
}

// cut closes every connection, whatever it is doing.
func (hs *h2Servers) cut() {
	for _, c := range hs.all() {
		_ = c.link.Close()
	}
}

// count returns how many connections are served.
func (hs *h2Servers) count() int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return len(hs.conns)
}

// all returns the connections that are served.
func (hs *h2Servers) all() []*h2Conn {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	list := make([]*h2Conn, 0, len(hs.conns))
	for c := range hs.conns {
		list = append(list, c)
	}
	return list
}

// h2Conn is a connection as the library sees it: decrypted bytes, which it looks at as they pass.
type h2Conn struct {
	*tls.Conn
	link  *link
	mux   *muxConn
	state *tls.ConnectionState
	meter frameMeter
}

// ConnectionState names the TLS session; each call of the embedded one would copy it.
func (c *h2Conn) ConnectionState() tls.ConnectionState { return *c.state }

// Read reads what the client sends. Once it has become a flood the connection ends.
func (c *h2Conn) Read(p []byte) (int, error) {
	if c.meter.flooded.Load() {
		return 0, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	n, err := c.Conn.Read(p)
	c.meter.received(p[:n])
	return n, err
}

// Write sends what the library has to say. It flushes whenever nothing more waits: by letting the answers that are
// about to come go first, fewer writes do for all.
func (c *h2Conn) Write(p []byte) (int, error) {
	runtime.Gosched()
	c.meter.sent(p)
	return c.Conn.Write(p)
}

// Close closes the connection. A farewell could wait for a peer that takes nothing: it goes only to one that took all
// there was.
func (c *h2Conn) Close() error {
	if c.link.queued() > 0 {
		return c.link.Close()
	}
	return c.Conn.Close()
}

// ServeHTTP answers one request. It implements http.Handler for the library.
func (c *h2Conn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mux.srv.metrics.h2Requests.Inc()
	if c.mux.serveWeb(w, r) {
		panic(http.ErrAbortHandler) // The library resets the stream.
	}
}

// sweepH2Every is how often streams are looked at whose clients may have stopped.
const sweepH2Every = time.Second

// sweepH2 ends what clients let hang: heads that do not end, writes that they do not take.
func (s *Server) sweepH2() {
	defer s.sweeper.Done()
	tick := time.NewTicker(sweepH2Every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if s.closing.Load() {
			s.h2.shutdown(context.Background()) // A handshake may have ended after the first call.
		}
		t := now()
		for _, c := range s.h2.all() {
			if limit := s.config().HeaderTimeout; limit > 0 && c.meter.headSince(t) > limit {
				s.metrics.errors[KindRequestTimeout].Inc()
				_ = c.link.Close()
				continue
			}
			c.mux.sweep(t)
		}
	}
}

// h2Log passes what the library has to say to the operational log. Clients cause nearly all of it.
type h2Log struct{ log *slog.Logger }

// Write implements io.Writer for log.Logger.
func (l h2Log) Write(p []byte) (int, error) {
	l.log.Debug("http2: " + strings.TrimRight(strings.TrimPrefix(string(p), "http2: "), "\n"))
	return len(p), nil
}
