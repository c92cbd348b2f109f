//go:build !race

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/accesslog"
	"sluice/internal/pages"
)

// Budgets in allocations, from accept to finish, access log and metrics included. They are promises of the documentation:
// raising one is a decision, not a repair.
const (
	getBudget    = 0 // a keep-alive request without a body
	postBudget   = 0 // one with a body that fits a buffer; its backend connection is looked at before it is used
	uploadBudget = 1 // one whose body is streamed: the goroutine that does it
	roomsBudget  = 0 // each room by itself
)

// allocRuns is how often each budget is measured; the best run counts, since the background may allocate in between.
const allocRuns = 6

// allocSlack is what the background may allocate per request in the best run: timers of the access log, the clock.
const allocSlack = 0.02

// wantAllocs checks how much f allocates by itself.
func wantAllocs(t *testing.T, what string, budget float64, f func()) {
	t.Helper()
	best := 1e9
	for range allocRuns {
		best = min(best, testing.AllocsPerRun(500, f))
	}
	if best > budget {
		t.Errorf("%s: %.1f allocations, the budget is %.0f", what, best, budget)
	}
}

func TestAlloc_Rooms(t *testing.T) {
	raw := []byte("POST /a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: agent\r\nAccept: */*\r\nX-Drop: 1\r\n" +
		"Connection: keep-alive, x-drop\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nTransfer-Encoding: chunked\r\n\r\n")
	x := newExchange(t, string(raw), true)
	wantAllocs(t, "scan and judge a request", roomsBudget, func() {
		x.req.reset()
		if n, bad := x.req.scan(raw, &strictRules); n != len(raw) || bad != KindNone || x.req.judge() != KindNone {
			t.Fatal("refused")
		}
	})
	dst := make([]byte, 0, 4096)
	wantAllocs(t, "write the request's head", roomsBudget, func() { dst = x.appendRequestHead(dst[:0], false) })
	wantAllocs(t, "find the client's address", roomsBudget, func() { _ = x.clientAddr() })

	answer := []byte("HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nContent-Length: 5\r\nConnection: x-drop\r\nX-Drop: 1\r\n" +
		"Folded: a\r\n b\r\nSet-Cookie: a\r\n\r\n")
	kept, r := bytes.Clone(answer), &response{}
	wantAllocs(t, "scan and judge an answer", roomsBudget, func() {
		r.reset()
		copy(answer, kept) // Folded lines are mended in place.
		if n, bad := r.scan(answer, &lenientRules); n != len(answer) || bad != KindNone || !r.judge(false) {
			t.Fatal("refused")
		}
	})
	wantAllocs(t, "write the answer's fields", roomsBudget, func() { dst = x.appendResponseFields(dst[:0], r) })

	src, b := &source{}, &body{}
	src.buf.acquire(smallBuffer)
	chunked := []byte("5\r\nhello\r\n7;ext\r\n, world\r\n0\r\n\r\n")
	wantAllocs(t, "read a chunked body", roomsBudget, func() {
		src.r, src.w = 0, copy(src.buf.b, chunked)
		b.start(src, framingChunked, 0)
		for {
			if _, err := b.ready(); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAlloc_Choice(t *testing.T) {
	route := routeTo(t, "http://10.0.0.1:80", "http://10.0.0.2:80#weight=3", "http://10.0.0.3:80")
	cfg := DefaultConfig()
	srv := &Server{}
	srv.pools.m = map[string]*pool{}
	x := &exchange{srv: srv, cfg: &cfg, route: route, routed: true, tried: []string{route.Frontend().Backends[0].Key}}
	for _, balance := range []Balance{BalanceRandom, BalanceRoundRobin, BalanceLeastConn, BalanceP2C} {
		cfg.Balance = balance
		wantAllocs(t, "choose by "+string(balance), roomsBudget, func() {
			if e := x.pick(); e.Kind != KindNone {
				t.Fatal(e)
			}
		})
	}
	wantAllocs(t, "count a request and a retry", roomsBudget, func() {
		srv.budget.request("k", 1)
		srv.budget.retry("k", 1)
	})
}

func TestAlloc_Error(t *testing.T) {
	cause := errors.New("cause")
	var e Error
	wantAllocs(t, "make an error", roomsBudget, func() {
		e = Error{Kind: KindBackendReset, Cause: cause}
		_, _ = e.Source(), e.marks()
	})
}

func TestAlloc_Exchange(t *testing.T) {
	const get = "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: agent\r\nAccept: */*\r\n" +
		"Referer: http://www.example.com/\r\nCookie: a=b\r\nAccept-Encoding: gzip\r\n\r\n"
	const post = "POST /form HTTP/1.1\r\nHost: www.example.com\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello=world"
	upload := "PUT /file HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000)
	chunked := "POST /form HTTP/1.1\r\nHost: www.example.com\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello=world\r\n0\r\n\r\n"
	head := "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nServer: test\r\nContent-Type: text/plain\r\n"
	length := head + "Content-Length: 512\r\n\r\n" + strings.Repeat("x", 512)
	chunks := head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, request, answer string
		budget                float64
	}{
		{"GET", get, length, getBudget},
		{"GET chunked", get, chunks, getBudget},
		{"POST", post, length, postBudget},
		{"PUT streamed", upload, length, uploadBudget},
		{"POST chunked", chunked, length, uploadBudget},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := serveForAllocs(t, cannedBackend(t, len(c.request)-strings.Index(c.request, "\r\n\r\n")-4, c.answer))
			got := perRequest(t, addr, []byte(c.request))
			t.Logf("%.4f allocations per request", got)
			if got > c.budget+allocSlack {
				t.Errorf("%.3f allocations per request, the budget is %.0f", got, c.budget)
			}
		})
	}
}

// perRequest returns the allocations of the whole process for one request on a keep-alive connection: the best of some
// runs. Client and backend allocate nothing.
func perRequest(t *testing.T, addr string, request []byte) float64 {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	answer := 0
	do := func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0 || n < answer; {
			m, err := conn.Read(buf[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 OK\r\n")) {
			t.Fatalf("got %.60q", buf)
		}
	}
	answer = learnAnswer(t, conn, request, buf)
	const requests = 1000
	for range requests {
		do() // Everything that is made once is made now.
	}
	// Pools must not be emptied in the middle.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	best := 1e9
	for range allocRuns {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range requests {
			do()
		}
		runtime.ReadMemStats(&after)
		best = min(best, float64(after.Mallocs-before.Mallocs)/requests)
	}
	return best
}

// learnAnswer sends a request and returns how long its answer is: what has come when nothing more comes for a while.
func learnAnswer(t *testing.T, conn net.Conn, request, buf []byte) int {
	t.Helper()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.SetDeadline(time.Now().Add(time.Minute)) }()
	for n, quiet := 0, 10*time.Second; ; quiet = 500 * time.Millisecond {
		_ = conn.SetReadDeadline(time.Now().Add(quiet))
		m, err := conn.Read(buf[n:])
		n += m
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && n > 0:
			return n
		case err != nil:
			t.Fatal(err)
		}
	}
}

// cannedBackend answers every request, whose body must be of the given length, with the same bytes. It allocates nothing
// for a request.
func cannedBackend(t *testing.T, bodyBytes int, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveCanned(c, bodyBytes, []byte(answer))
		}
	}()
	return ln.Addr().String()
}

func serveCanned(c net.Conn, bodyBytes int, answer []byte) {
	defer c.Close()
	buf, emptyLine := make([]byte, 64<<10), []byte("\r\n\r\n")
	for {
		for n, end := 0, 0; end == 0 || n < end+bodyBytes; {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			if at := bytes.Index(buf[:n], emptyLine); end == 0 && at >= 0 {
				end = at + len(emptyLine)
			}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// serveForAllocs runs a proxy with everything on in front of a backend, until the test ends.
func serveForAllocs(t *testing.T, backend string) string {
	t.Helper()
	return serveBindForAllocs(t, backend, Bind{})
}

func serveBindForAllocs(t *testing.T, backend string, bind Bind) string {
	t.Helper()
	log, set := slog.New(slog.DiscardHandler), metrics.NewSet()
	access, err := accesslog.Open(accesslog.Options{Path: filepath.Join(t.TempDir(), "access.log"), Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = access.Close() })
	errorPages, err := pages.New(pages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	routes := startRoutes(t, map[string][]string{"frontend:www.example.com": {"example", "http://" + backend}})
	server, err := New(DefaultConfig(), Deps{Routes: routes, Log: log, AccessLog: access, Metrics: set, Pages: errorPages})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln, bind) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}
