package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/cache"
	"sluice/internal/accesslog"
	"sluice/internal/acme"
	"sluice/internal/admin"
	"sluice/internal/certs"
	"sluice/internal/config"
	"sluice/internal/pages"
	"sluice/internal/threads"
	"sluice/proxy"
)

// edge is the running program: its parts, in the order in which they are opened. The signal loop
// alone touches them; only draining is shared.
type edge struct {
	started *config.Config // what the process was started with
	current *config.Config // started, with what reloads have changed
	opts    config.LoadOptions
	log     leveledLogger
	metrics *metrics.Set

	handover  handover
	listeners []listener
	quic      []*quicSocket // of HTTP/3
	operators net.Listener  // of the admin server; nil when it is off
	access    *accesslog.Writer
	pages     *pages.Set
	routes    *cache.Cache
	certs     *certs.Directory // nil without tls.directory
	issuer    *acme.Issuer     // nil without acme.onDemand
	proxy     *proxy.Server
	admin     *admin.Server
	threads   *threads.Follower // nil where their number is fixed

	told     time.Time // when the first signal to stop came; zero before it
	draining atomic.Bool
	serving  sync.WaitGroup
	failed   chan error // the first listener that ended by itself
}

func newEdge(cfg *config.Config, opts config.LoadOptions, log leveledLogger) *edge {
	return &edge{
		started: cfg, current: cfg, opts: opts, log: log,
		metrics: metrics.NewSet(),
		failed:  make(chan error, 1),
	}
}

// start opens everything. What needs root comes before the change of user: ports, logs, keys.
func (e *edge) start() error {
	if err := e.handover.open(e.log.Logger); err != nil {
		return err
	}
	id, err := findIdentity(e.started, e.log.Logger)
	if err != nil {
		return err
	}
	if err := e.openAsRoot(id); err != nil {
		return err
	}
	if err := id.assume(e.log.Logger); err != nil {
		return err
	}
	probe(e.started, e.log.Logger)
	return e.startServing()
}

func (e *edge) openAsRoot(id identity) (err error) {
	ctx := context.Background()
	if e.listeners, err = listenAll(ctx, e.started, &e.handover); err != nil {
		return err
	}
	if e.quic, err = listenQUIC(ctx, e.started, &e.handover); err != nil {
		return err
	}
	for _, s := range e.quic {
		s.roomy(e.log.Logger)
	}
	if cfg := e.started.Admin; cfg.Port != 0 {
		b := config.Bind{Address: cfg.Bind, Port: cfg.Port}
		if e.operators, err = listen(ctx, b, []config.Bind{b}, &e.handover); err != nil {
			return fmt.Errorf("admin: %w; another port is set with admin.port, 0 switches it off", err)
		}
	}
	if err := e.handover.unused(); err != nil {
		return err
	}
	if err := e.openAccessLog(id); err != nil {
		return err
	}
	if e.pages, err = pages.New(pages.Options{StaticDir: e.started.Server.StaticDir, Log: e.log.Logger}); err != nil {
		return fmt.Errorf("server.staticDir: %w", err)
	}
	for i := range e.listeners {
		if e.listeners[i].bundle, err = e.loadBundle(i); err != nil {
			return fmt.Errorf("https on %s: %w", e.listeners[i].bind.HostPort(), err)
		}
	}
	return nil
}

// loadBundle reads the certificate of the listener at index i, nil for one of plain HTTP.
func (e *edge) loadBundle(i int) (*certs.Bundle, error) {
	if i < len(e.started.HTTP.Bind) {
		return nil, nil //nolint:nilnil // plain HTTP has no certificate
	}
	options := certOptions(e.started, e.listeners[i].bind, e.log)
	options.ByName = e.certificate
	options.Unserved = newUnserved(e.metrics, e.log.Logger, e.listeners[i].bind.HostPort()).note
	if e.started.ACME.OnDemand {
		options.OnDemand, options.Challenge = e.obtain, e.tlsChallenge
	}
	return certs.Load(options)
}

func certOptions(cfg *config.Config, b config.Bind, log leveledLogger) certs.Options {
	return certs.Options{
		Cert: b.Cert, Key: b.Key, Passphrase: b.Passphrase, CA: b.CA, ClientCA: b.ClientCA,
		Preset: cfg.TLS.Preset, Ciphers: b.Ciphers, SecureProtocol: b.SecureProtocol, Log: log.Logger,
	}
}

// certificate finds one by name: that of the store, else that of tls.directory. A valid one counts
// before one that is expired. It is called in handshakes, none of which comes before startServing.
func (e *edge) certificate(name string, client netip.Addr) *tls.Certificate {
	cert := e.routes.Certificate(name, client)
	if e.issuer != nil && cert != nil {
		e.issuer.Consider(name, cert.Leaf)
	}
	if e.certs == nil || cert != nil && certs.CheckDates(cert.Leaf, time.Now()) == nil {
		return cert
	}
	if own := e.certs.Certificate(name); own != nil {
		return own
	}
	return cert
}

func (e *edge) openAccessLog(id identity) (err error) {
	path := e.started.Server.AccessLog
	fresh, err := prepareLogFolder(path, id)
	if err != nil {
		return err
	}
	e.access, err = accesslog.Open(accesslog.Options{
		Path:    path,
		Format:  e.started.Server.AccessLogFormat,
		Planb:   e.started.Server.Compat == string(proxy.CompatPlanb),
		Log:     e.log.Logger,
		Metrics: e.metrics,
	})
	if err != nil {
		return fmt.Errorf("server.accessLog: %w", err)
	}
	if fresh {
		return id.give(path)
	}
	return nil
}

// prepareLogFolder creates the folder of the access log, though never the one above it: Hipache's
// package brought /var/log/hipache along, and its files name it. fresh tells that the file is not
// there yet.
func prepareLogFolder(path string, id identity) (fresh bool, err error) {
	if !isFile(path) {
		return false, nil
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	folder := filepath.Dir(path)
	switch err := os.Mkdir(folder, 0o755); { //nolint:gosec // logs are collected by other users
	case errors.Is(err, os.ErrExist):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("server.accessLog: %w; name another file, or \"stdout\"", err)
	}
	return true, id.give(folder)
}

// startServing starts what works as the final user: routes, then requests, then the admin pages.
func (e *edge) startServing() (err error) {
	settings, err := proxySettings(e.started)
	if err != nil {
		return err
	}
	if err := e.startRoutes(); err != nil {
		return err
	}
	if folder := e.started.TLS.Directory; folder != "" {
		if e.certs, err = certs.OpenDirectory(folder, e.started.TLS.MaxCertificates, e.log.Logger); err != nil {
			return fmt.Errorf("tls.directory: %w", err)
		}
	}
	if err := e.startIssuer(); err != nil {
		return err
	}
	e.proxy, err = proxy.New(settings, proxy.Deps{
		Routes: e.routes, Pages: e.pages, Log: e.log.Logger, AccessLog: e.access, Metrics: e.metrics,
		Challenge: e.httpChallenge(),
	})
	if err != nil {
		return err
	}
	e.startThreads()
	if err := e.awaitRoutes(); err != nil {
		return err
	}
	if err := e.handover.keep(); err != nil {
		return err
	}
	for _, ln := range e.listeners {
		e.serve(ln.bind.HostPort(), func() error { return e.proxy.Serve(ln.Listener, e.proxyBind(ln)) })
	}
	if err := e.serveQUIC(); err != nil {
		return err
	}
	if e.operators != nil {
		e.admin = admin.NewServer(admin.Options{Sets: []*metrics.Set{e.metrics}, Ready: e.ready}, e.log.Logger)
		e.serve("admin", func() error { return e.admin.Serve(e.operators) })
	}
	e.announce()
	return e.handover.complete()
}

// startThreads lets the number of threads follow the load, unless somebody has set it.
func (e *edge) startThreads() {
	switch fixed := e.started.Server.Threads; {
	case fixed > 0:
		runtime.GOMAXPROCS(fixed)
	case os.Getenv("GOMAXPROCS") == "":
		e.threads = threads.Start(threads.Options{Log: e.log.Logger, Metrics: e.metrics, Done: e.proxy.Requests})
	}
}

// startPatience is how long a start waits for the store before it serves without: clients wait in the queues of the
// sockets meanwhile. It is what connecting may take.
const startPatience = time.Second

// awaitRoutes holds the first request back until there are routes, since what comes before them would be refused, and
// get the certificate and the policy of another name. A store that does not answer soon is away, and no reason
// not to serve.
//
// A process that takes over waits longer, and lets the old one serve on. While the store is away the old one knows
// routes that this one could not learn, so it keeps its place; if it has none either, nothing is lost by going
// on as at any other start.
func (e *edge) awaitRoutes() error {
	patience := startPatience
	if e.handover.takesOver() {
		patience = storeTimeout
	}
	for deadline := time.Now().Add(patience); !e.routes.Ready() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	switch {
	case e.routes.Ready():
	case !e.handover.takesOver():
		e.log.Warn("the store does not answer: starting without", "waited", patience.String())
	case os.Getenv(coldEnv) == "":
		return fmt.Errorf("take over: the store has not answered in %v, and the old process has routes; "+
			"try again when the store is back, or restart without them", patience)
	default:
		e.log.Warn("the store does not answer, and the old process has no routes either: starting without",
			"waited", patience.String())
	}
	return nil
}

func (e *edge) startRoutes() (err error) {
	listeners := make([]net.Listener, len(e.listeners))
	for i, ln := range e.listeners {
		listeners[i] = ln.Listener
	}
	if e.operators != nil {
		listeners = append(listeners, e.operators) // A route must not open the admin pages to the world.
	}
	options := cacheSettings(e.started)
	options.Own = newOwnAddresses(listeners).contains
	options.Log = e.log.Logger
	options.Metrics = e.metrics
	if e.routes, err = cache.New(options); err != nil {
		return err
	}
	return e.routes.Start(context.Background())
}

func (e *edge) proxyBind(ln listener) proxy.Bind {
	b := proxy.Bind{ProxyProtocol: ln.bind.ProxyProtocol}
	if ln.bundle != nil {
		b.TLS, b.ClientCAs, b.HTTP2 = ln.bundle.TLSConfig(), ln.bundle.ClientCAs, e.started.HTTPS.HTTP2
		b.HTTP3 = e.started.HTTPS.HTTP3 && !ln.bind.ProxyProtocol
	}
	return b
}

// serve runs one listener's loop; when it ends with an error, so does the program.
func (e *edge) serve(name string, loop func() error) {
	e.serving.Go(func() {
		if err := loop(); err != nil && !errors.Is(err, proxy.ErrServerClosed) {
			select {
			case e.failed <- fmt.Errorf("listener %s: %w", name, err):
			default: // one failure is enough to end the program
			}
		}
	})
}

// announce tells what is served where.
func (e *edge) announce() {
	for _, ln := range e.listeners {
		protocol := "http"
		if ln.bundle != nil {
			protocol = "https"
		}
		e.log.Info("listening", "protocol", protocol, "address", ln.Addr().String())
	}
	for _, s := range e.quic {
		conn, _ := s.reads()
		e.log.Info("listening", "protocol", "http/3", "address", conn.LocalAddr().String())
	}
	if e.operators != nil {
		e.log.Info("listening", "protocol", "admin", "address", e.operators.Addr().String())
	}
	drivers := make([]string, len(e.started.Driver))
	for i, d := range e.started.Driver {
		drivers[i] = config.HideURL(d)
	}
	e.log.Info("sluice started", "version", programVersion(), "pid", os.Getpid(),
		"driver", drivers, "config", e.started.File)
}

var (
	errDraining = errors.New("draining")
	errNoRoutes = errors.New("the store has not answered yet")
)

// ready is the answer of /readyz.
func (e *edge) ready() error {
	switch {
	case e.draining.Load():
		return errDraining
	case !e.routes.Ready():
		return errNoRoutes
	default:
		return nil
	}
}

// closeTimeout bounds what is closed after the drain, which has nothing left to wait for.
const closeTimeout = 5 * time.Second

// close ends what the drain leaves open. The access log is last: every request has written its
// line by then.
func (e *edge) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var err error
	if e.admin != nil {
		err = e.admin.Shutdown(ctx)
	}
	if e.threads != nil {
		e.threads.Close()
	}
	if e.issuer != nil {
		e.issuer.Close() // before the store that it works with
	}
	if e.routes != nil {
		err = errors.Join(err, e.routes.Close())
	}
	if e.certs != nil {
		e.certs.Close()
	}
	err = errors.Join(err, e.access.Close())
	if err != nil {
		e.log.Warn("not everything closed cleanly", "error", err)
	}
}

// abandon closes what a start that failed had opened.
func (e *edge) abandon() {
	e.handover.stop()
	for _, ln := range e.listeners {
		_ = ln.Close() // the proxy may have closed it already
	}
	for _, s := range e.quic {
		s.close()
	}
	if e.operators != nil {
		_ = e.operators.Close()
	}
	if e.proxy != nil {
		e.proxy.Close()
	}
	e.close()
	e.serving.Wait()
}
