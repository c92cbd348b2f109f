package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/cache"
	"sluice/internal/accesslog"
	"sluice/internal/pages"
	"sluice/proxy"
)

// patience bounds every wait of these tests for something that must happen.
const patience = 10 * time.Second

// routeList is the content of a routes file: host to identifier and backends.
type routeList map[string][]string

// one routes host to the given backends, with the host as the identifier.
func one(host string, backends ...string) routeList {
	return routeList{host: append([]string{host}, backends...)}
}

// setup is what a test may change of an edge before it starts.
type setup struct {
	proxy.Config
	cache    cache.Options
	bind     proxy.Bind
	pages    pages.Options
	log      accesslog.Options
	noRoutes bool // a server without a cache: every lookup panics
	noPages  bool // a server without pages: every error answer panics
	wrap     func(net.Listener) net.Listener
	park     time.Duration // when idle connections are parked; 0 = when they are in the program
	opsLog   io.Writer     // operational log
	// challenge answers HTTP-01 challenges; nil: nothing does.
	challenge func(host, token []byte, client netip.Addr) []byte
}

// edge is a proxy under test on a free port, with everything that it works with.
type edge struct {
	t       testing.TB
	server  *proxy.Server
	config  proxy.Config
	routes  *cache.Cache
	metrics *metrics.Set
	access  *accesslog.Writer
	logPath string
	file    string // of the routes; "" with another driver
	addr    string
	port    int
	served  chan error

	stop sync.Once
}

// newEdge runs a proxy with a routes file until the test ends.
func newEdge(t testing.TB, routes routeList, change ...func(*setup)) *edge {
	t.Helper()
	e := &edge{t: t, metrics: metrics.NewSet(), served: make(chan error, 1)}
	dir := t.TempDir()
	s := setup{Config: proxy.DefaultConfig(), opsLog: t.Output()}
	s.Version = "1.2.3"
	if routes != nil {
		e.file = filepath.Join(dir, "routes.json")
		e.writeRoutes(routes)
		s.cache.Driver = []string{"file:" + e.file}
	}
	e.logPath = filepath.Join(dir, "access.log")
	s.log = accesslog.Options{Path: e.logPath, FlushInterval: 10 * time.Millisecond}
	for _, f := range change {
		f(&s)
	}
	e.config = s.Config
	e.start(&s)
	return e
}

func (e *edge) start(s *setup) {
	t := e.t
	t.Helper()
	log := slog.New(slog.NewTextHandler(s.opsLog, nil))
	var err error
	if !s.noRoutes {
		s.cache.Log, s.cache.Metrics = log, e.metrics
		if e.routes, err = cache.New(s.cache); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.routes.Close() })
		if err := e.routes.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	errorPages, err := pages.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	if s.noPages {
		errorPages = nil
	}
	if e.access, err = accesslog.Open(s.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.access.Close() })
	e.server, err = proxy.New(s.Config, proxy.Deps{
		Routes: e.routes, Log: log, AccessLog: e.access, Metrics: e.metrics, Pages: errorPages, Challenge: s.challenge,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr, e.port = ln.Addr().String(), ln.Addr().(*net.TCPAddr).Port
	if s.wrap != nil {
		ln = s.wrap(ln)
	}
	if s.park > 0 {
		e.server.ParkAfter(s.park)
	}
	go func() { e.served <- e.server.Serve(ln, s.bind) }()
	if s.bind.HTTP3 {
		e.startQUIC(s)
	}
	t.Cleanup(e.cut)
}

// startQUIC serves HTTP/3 on the same port.
func (e *edge) startQUIC(s *setup) {
	e.t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: e.port})
	if err != nil {
		e.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.server.ServeQUIC(pc, s.bind, 0) }()
	e.t.Cleanup(func() { // After cut, which is registered later.
		if err := <-done; !errors.Is(err, proxy.ErrServerClosed) {
			e.t.Errorf("serve quic: %v", err)
		}
	})
}

// cut ends the edge at once: tests may leave connections open.
func (e *edge) cut() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.shutdown(ctx)
}

// shutdown ends the edge once and returns what Shutdown said the first time.
func (e *edge) shutdown(ctx context.Context) (err error) {
	e.stop.Do(func() {
		err = e.server.Shutdown(ctx)
		if served := <-e.served; !errors.Is(served, proxy.ErrServerClosed) {
			e.t.Errorf("serve: %v", served)
		}
	})
	return err
}

// writeRoutes replaces the routes file in one step.
func (e *edge) writeRoutes(routes routeList) {
	e.t.Helper()
	keys := map[string][]string{}
	for host, list := range routes {
		keys["frontend:"+host] = list
	}
	content, err := json.Marshal(keys)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.file+".new", content, 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(e.file+".new", e.file); err != nil {
		e.t.Fatal(err)
	}
}

// metric returns the value of a series by its full name, -1 if there is none.
func (e *edge) metric(name string) float64 {
	var b bytes.Buffer
	e.metrics.WritePrometheus(&b)
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				e.t.Errorf("metric %s: %v", name, err)
			}
			return v
		}
	}
	return -1
}

// awaitMetric waits until a series has a value.
func (e *edge) awaitMetric(name string, want float64) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%s = %v", name, want), func() bool { return e.metric(name) == want })
}

// awaitInFlight waits until n requests hold a place at their backends.
func (e *edge) awaitInFlight(n int64) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%d requests in flight", n), func() bool { return e.server.InFlight() == n })
}

// awaitLog waits until the access log has n lines and returns them.
func (e *edge) awaitLog(n int) (lines []string) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%d lines in the access log", n), func() bool {
		content, err := os.ReadFile(e.logPath)
		lines = strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
		return err == nil && len(content) > 0 && len(lines) >= n
	})
	return lines
}

// eventually polls until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// dial opens a connection that ends with the test at the latest.
func (e *edge) dial() *client {
	e.t.Helper()
	c, err := net.DialTimeout("tcp4", e.addr, patience)
	if err != nil {
		e.t.Fatal(err)
	}
	return newClient(e.t, c)
}

// do sends a request on a connection of its own.
func (e *edge) do(method, target, host string, fields ...string) *answer {
	e.t.Helper()
	c := e.dial()
	defer c.Close()
	return c.do(method, target, host, fields...)
}

// get is do for the simplest of requests.
func (e *edge) get(host string, fields ...string) *answer {
	e.t.Helper()
	return e.do("GET", "/", host, fields...)
}

// peersFrom makes a listener whose connections seem to come from another address: loopback has no strangers.
func peersFrom(addr string) func(net.Listener) net.Listener {
	ip := net.ParseIP(addr)
	return func(ln net.Listener) net.Listener { return &foreignListener{ln, ip} }
}

type foreignListener struct {
	net.Listener
	ip net.IP
}

func (l *foreignListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &foreignConn{c.(*net.TCPConn), l.ip}, nil
}

type foreignConn struct {
	*net.TCPConn
	ip net.IP
}

func (c *foreignConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.ip, Port: 40000} }
