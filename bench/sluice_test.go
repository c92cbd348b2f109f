package bench

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/accesslog"
	"sluice/internal/pages"
	"sluice/proxy"
)

// shutdownTimeout bounds the end of a proxy; its clients are gone by then.
const shutdownTimeout = 10 * time.Second

// startSluice starts sluice's data plane as the program does: routes from Redis, access log in
// Hipache's format, metrics on.
func startSluice(s *suite, backend string, hosts int) string {
	set := metrics.NewSet()
	quiet := slog.New(slog.DiscardHandler)
	errorPages, err := pages.New(pages.Options{})
	s.must(err)
	server, err := proxy.New(proxy.DefaultConfig(), proxy.Deps{
		Routes:    s.startCache(hosts, "http://"+backend),
		Log:       quiet,
		AccessLog: s.startAccessLog(set),
		Metrics:   set,
		Pages:     errorPages,
	})
	s.must(err)
	ln := s.listen()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln, proxy.Bind{}) }()
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		s.must(server.Shutdown(ctx))
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			s.Errorf("bench: serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// startAccessLog opens an access log whose lines are formatted, collected and written like those of
// a file, but never fill a disk.
func (s *suite) startAccessLog(set *metrics.Set) *accesslog.Writer {
	w, err := accesslog.Open(accesslog.Options{
		Path:    os.DevNull,
		Format:  "hipache",
		Log:     slog.New(slog.DiscardHandler),
		Metrics: set,
	})
	s.must(err)
	s.Cleanup(func() { s.must(w.Close()) })
	return w
}
