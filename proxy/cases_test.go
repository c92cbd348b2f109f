package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/cache"
	"sluice/internal/httpcases"
	"sluice/internal/pages"
	"sluice/proxy"
)

// knownFailures are cases that do not pass yet. One that passes must leave the list.
var knownFailures = []string{}

// maxLanes is how many cases are played at a time. Most of a case's time is waiting; cases that measure time bear about
// this much company on two cores.
const maxLanes = 10

// TestCases_HTTP1 plays the raw HTTP/1.1 and WebSocket cases, each with the limits it asks for.
func TestCases_HTTP1(t *testing.T) {
	cases, err := httpcases.Cases()
	if err != nil {
		t.Fatal(err)
	}
	byTimeout := map[time.Duration][]*httpcases.Case{}
	for _, c := range cases {
		timeout := time.Duration(c.ResponseTimeoutMS) * time.Millisecond
		byTimeout[timeout] = append(byTimeout[timeout], c)
	}
	for timeout, group := range byTimeout {
		cfg := proxy.DefaultConfig()
		if timeout > 0 {
			cfg.ResponseTimeout = timeout
		}
		lanes := make([]httpcases.Lane, min(maxLanes, len(group)))
		for i := range lanes {
			lanes[i] = startLane(t, cfg)
		}
		for _, r := range httpcases.Play(lanes, group) {
			known := slices.Contains(knownFailures, r.Case.ID)
			switch {
			case !r.Passed() && !known:
				t.Error(r)
			case r.Passed() && known:
				t.Errorf("%s passes: take it off the list of known failures", r.Case.ID)
			}
		}
	}
}

// startLane runs a proxy with a file of routes in front of a scripted backend.
func startLane(t *testing.T, cfg proxy.Config) httpcases.Lane {
	t.Helper()
	backend, err := httpcases.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	return httpcases.Lane{Front: serveCases(t, cfg, caseRoutes(t, backend.Addr())), Backend: backend}
}

// caseRoutes writes the routes that the cases ask for and returns the driver's URL.
func caseRoutes(t *testing.T, backend string) string {
	t.Helper()
	routes := map[string][]string{}
	for _, host := range []string{
		"h", "other", "abs.example", "h.example", "xn--bcher-kva.example", "[2001:db8::1]",
	} {
		routes["frontend:"+host] = []string{host, "http://" + backend}
	}
	content, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + file
}

// serveCases runs a proxy on a free port until the test ends and returns its address.
func serveCases(t *testing.T, cfg proxy.Config, driver string) string {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	set := metrics.NewSet()
	routes, err := cache.New(cache.Options{Driver: []string{driver}, Log: log, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = routes.Close() })
	if err := routes.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	errorPages, err := pages.New(pages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := proxy.New(cfg, proxy.Deps{Routes: routes, Log: log, Metrics: set, Pages: errorPages})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln, proxy.Bind{}) }()
	t.Cleanup(func() { stopCases(t, server, served) })
	return ln.Addr().String()
}

// stopCases ends a proxy at once: cases may leave connections open.
func stopCases(t *testing.T, server *proxy.Server, served <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("shut down: %v", err)
	}
	if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("serve: %v", err)
	}
}
