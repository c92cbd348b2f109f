package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// get sends one request to the handler.
func get(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, http.NoBody))
	return w
}

func TestHandler_Pages(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	set.NewCounter(`sluice_requests_total{class="2xx"}`).Set(7)
	h := Handler(Options{Sets: []*metrics.Set{set}, Ready: func() error {
		return errors.New("store_unavailable:\nno answer yet")
	}})
	tests := []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/", 200, "/debug/pprof/"},
		{"GET", "/metrics", 200, "sluice_requests_total{class=\"2xx\"} 7\n"},
		{"GET", "/metrics", 200, "\ngo_goroutines "},
		{"GET", "/metrics", 200, "\nprocess_resident_memory_bytes "},
		{"GET", "/metrics", 200, "\nprocess_open_fds "},
		{"GET", "/healthz", 200, "ok\n"},
		{"GET", "/readyz", 503, "not ready: store_unavailable: no answer yet\n"},
		{"GET", "/debug/pprof/", 200, "goroutine"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile: total"},
		{"GET", "/debug/pprof/cmdline", 200, "admin.test"},
		{"GET", "/nothing", 404, "404"},
		{"GET", "/healthz/more", 404, "404"},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, "only GET and HEAD"},
		{"DELETE", "/debug/pprof/heap", 405, "only GET and HEAD"},
		{"POST", "/nothing", 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			w := get(h, tt.method, tt.target)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d %q; want %d and %q", w.Code, w.Body, tt.status, tt.body)
			}
			if allow := w.Header().Get("Allow"); (allow == "GET, HEAD") != (tt.status == 405) {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

func TestHandler_ReadyFollowsTheCallback(t *testing.T) {
	t.Parallel()
	var err error
	h := Handler(Options{Ready: func() error { return err }})
	for _, err = range []error{nil, errors.New("draining"), nil} {
		want := http.StatusOK
		if err != nil {
			want = http.StatusServiceUnavailable
		}
		if w := get(h, "GET", "/readyz"); w.Code != want {
			t.Errorf("%v: got %d; want %d", err, w.Code, want)
		}
	}
	if w := get(Handler(Options{}), "GET", "/readyz"); w.Code != http.StatusOK {
		t.Errorf("without a callback: got %d; want 200", w.Code)
	}
}

// TestHandler_UsesNoGlobalMux: importing net/http/pprof registers its pages there, ours must not be.
func TestHandler_UsesNoGlobalMux(t *testing.T) {
	t.Parallel()
	_ = Handler(Options{})
	if w := get(http.DefaultServeMux, "GET", "/metrics"); w.Code != http.StatusNotFound {
		t.Errorf("the default mux serves /metrics: %d", w.Code)
	}
}

// start serves o on a port of its own and returns the server, its URL and where Serve's result goes.
func start(t *testing.T, o Options) (*Server, string, <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(o, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return s, "http://" + ln.Addr().String(), served
}

func TestServer_ShutdownWaitsForRequests(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s, url, served := start(t, Options{Ready: func() error {
		close(entered)
		<-leave
		return nil
	}})
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answered <- string(text)
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if err := <-served; err != nil { // accepting has ended while the request is still open
		t.Errorf("Serve: %v", err)
	}
	close(leave)
	if got := <-answered; got != "ok\n" {
		t.Errorf("the request in progress got %q", got)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestServer_ShutdownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	s, url, _ := start(t, Options{Ready: func() error {
		close(entered)
		<-leave
		return nil
	}})
	go func() {
		if resp, err := http.Get(url + "/readyz"); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v; want %v", err, context.DeadlineExceeded)
	}
}

func TestServer_TracesLongerThanItsReadTimeout(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{}, nil)
	s.http.ReadTimeout = 100 * time.Millisecond
	go func() { _ = s.Serve(ln) }()
	defer s.http.Close()
	began := time.Now()
	resp, err := http.Get("http://" + ln.Addr().String() + "/debug/pprof/trace?seconds=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); resp.StatusCode != http.StatusOK || took < 900*time.Millisecond {
		t.Errorf("got %d after %v; want a trace of one second", resp.StatusCode, took)
	}
}

// deadlineListener notes whether a write deadline was set on any of its connections.
type deadlineListener struct {
	net.Listener
	limited atomic.Bool
}

type deadlineConn struct {
	net.Conn
	ln *deadlineListener
}

func (l *deadlineListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return deadlineConn{conn, l}, err
}

func (c deadlineConn) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		c.ln.limited.Store(true)
	}
	return c.Conn.SetWriteDeadline(t)
}

func TestServer_LimitsWritingExceptForProfiles(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &deadlineListener{Listener: inner}
	s := NewServer(Options{}, nil)
	go func() { _ = s.Serve(ln) }()
	defer s.http.Close()
	for _, page := range []struct {
		path    string
		limited bool
	}{{"/metrics", true}, {"/debug/pprof/cmdline", false}, {"/healthz", true}} {
		resp, err := http.Get("http://" + inner.Addr().String() + page.path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if got := ln.limited.Swap(false); got != page.limited {
			t.Errorf("%s: limited %v; want %v", page.path, got, page.limited)
		}
	}
}

func TestServer_LimitsTheHead(t *testing.T) {
	t.Parallel()
	_, url, _ := start(t, Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d; want 431", resp.StatusCode)
	}
}

func TestServer_ServeReportsABrokenListener(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	err = NewServer(Options{}, nil).Serve(ln)
	if err == nil || !strings.Contains(err.Error(), "serve administration pages on 127.0.0.1:") {
		t.Errorf("got %v", err)
	}
}

// TestServer_RetireAnnouncesTheEnd: a scraper's idle connection takes one more request.
func TestServer_RetireAnnouncesTheEnd(t *testing.T) {
	t.Parallel()
	s, url, served := start(t, Options{})
	client := &http.Client{Transport: &http.Transport{}}
	ask := func() (*http.Response, error) {
		resp, err := client.Get(url + "/healthz")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := ask(); err != nil || resp.Close {
		t.Fatalf("before: %v, closing %t", err, resp != nil && resp.Close)
	}
	s.Retire()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if resp, err := ask(); err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("on the open connection: %+v, %v; want 200 and Connection: close", resp, err)
	}
	if _, err := ask(); err == nil {
		t.Error("a new connection was accepted")
	}
}
