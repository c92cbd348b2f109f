package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the administration server.
const (
	readTimeout    = 5 * time.Second  // for the whole request, which has no body
	writeTimeout   = 30 * time.Second // for an answer that is no profile
	idleTimeout    = 60 * time.Second
	maxHeaderBytes = 16 << 10
)

// Server serves the administration pages on one or more listeners.
type Server struct {
	http http.Server

	mu        sync.Mutex
	listeners []net.Listener // guarded by mu
	retired   atomic.Bool
}

// NewServer returns a server for the given pages. log receives the server's own errors; nil
// discards them.
func NewServer(o Options, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{}
	s.http = http.Server{
		Handler:        s.announceEnd(Handler(o)),
		ReadTimeout:    readTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve accepts connections on ln until Retire or Shutdown, and closes ln. It returns nil after
// these.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, ln)
	s.mu.Unlock()
	if s.retired.Load() {
		_ = ln.Close() // Retire may have come before the listener was known.
	}
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !s.retired.Load() {
		return fmt.Errorf("serve administration pages on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Retire stops accepting, for another process serves the same listeners. Connections stay open, as
// a request may be on its way; each ends with its next answer. Shutdown ends the rest.
func (s *Server) Retire() {
	s.retired.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ln := range s.listeners {
		_ = ln.Close() // Nothing is lost with it: the socket lives on in the other process.
	}
}

// announceEnd makes each answer the last of its connection once the server is retired.
func (s *Server) announceEnd(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.retired.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Shutdown stops accepting and waits for the requests in progress, at most until ctx ends; then
// it closes their connections and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("shut administration server down: %w", err)
	}
	return nil
}
