package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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
	"sluice/internal/backendtest"
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
	opsLog   io.Writer // operational log
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
		Routes: e.routes, Log: log, AccessLog: e.access, Metrics: e.metrics, Pages: errorPages,
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
	go func() { e.served <- e.server.Serve(ln, s.bind) }()
	t.Cleanup(e.cut)
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

// client is one raw connection to an edge.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
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

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(6 * patience))
	return &client{Conn: c, t: t, r: bufio.NewReader(c)}
}

// request is a request as text, without a body.
func request(method, target, host string, fields ...string) string {
	text := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, f := range fields {
		text += f + "\r\n"
	}
	return text + "\r\n"
}

// send writes raw bytes.
func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// answer is what a client got for one request.
type answer struct {
	*http.Response
	body string
}

// cause returns the X-Sluice-Error of an answer.
func (a *answer) cause() string { return a.Header.Get("X-Sluice-Error") }

// echoed decodes the answer of an echo backend.
func (a *answer) echoed(t testing.TB) *backendtest.Echoed {
	t.Helper()
	q, err := backendtest.ParseEcho([]byte(a.body))
	if err != nil {
		t.Fatalf("status %d, cause %q: %v", a.StatusCode, a.cause(), err)
	}
	return q
}

// readAnswer reads one whole answer, final or not.
func readAnswer(r *bufio.Reader, method string) (*answer, error) {
	a, err := readAnswerHead(r, method)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(a.Body)
	a.body = string(body)
	if err != nil {
		return a, fmt.Errorf("read body after %d bytes: %w", len(body), err)
	}
	return a, nil
}

// readAnswerHead reads the head; the body is left to the caller.
func readAnswerHead(r *bufio.Reader, method string) (*answer, error) {
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("read answer to %s: %w", method, err)
	}
	return &answer{Response: resp}, nil
}

// answer reads one whole answer.
func (c *client) answer(method string) *answer {
	c.t.Helper()
	a, err := readAnswer(c.r, method)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// do sends a request and reads its answer.
func (c *client) do(method, target, host string, fields ...string) *answer {
	c.t.Helper()
	c.send(request(method, target, host, fields...))
	return c.answer(method)
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

// wantEnd fails the test unless the connection ends without another byte.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || isTimeout(err) {
		c.t.Errorf("connection goes on with %.80q, %v; want its end", rest, err)
	}
}

// wantAlive fails the test unless the connection answers another request.
func (c *client) wantAlive(host string) {
	c.t.Helper()
	if a := c.do("GET", "/alive", host); a.StatusCode != 200 {
		c.t.Errorf("next request on the connection: status %d, want 200", a.StatusCode)
	}
}

// reset ends the connection with an RST.
func (c *client) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// closeWrite sends a FIN.
func (c *client) closeWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// wantStatus fails the test unless an answer has a status and, for answers of our own, a cause.
func wantStatus(t testing.TB, a *answer, status int, cause string) {
	t.Helper()
	if a.StatusCode != status || a.cause() != cause {
		t.Errorf("got %d with cause %q, want %d with %q", a.StatusCode, a.cause(), status, cause)
	}
}

// ok is a small answer that keeps its connection.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

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

// discard reads to the end and returns how many bytes came.
func discard(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
