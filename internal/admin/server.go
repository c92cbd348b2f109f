package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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
}

// NewServer returns a server for the given pages. log receives the server's own errors; nil
// discards them.
func NewServer(o Options, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{http: http.Server{
		Handler:        Handler(o),
		ReadTimeout:    readTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
}

// Serve accepts connections on ln until Shutdown, and closes ln. It returns nil after Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve administration pages on %s: %w", ln.Addr(), err)
	}
	return nil
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
