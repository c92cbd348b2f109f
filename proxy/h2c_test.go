package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2cBackend is a server that speaks nothing but HTTP/2 without TLS.
type h2cBackend struct {
	URL   string
	conns atomic.Int64 // so far
	http  *http.Server
}

func newH2CBackend(t *testing.T, handler http.HandlerFunc) *h2cBackend {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &h2cBackend{URL: "h2c://" + ln.Addr().String()}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	b.http = &http.Server{Handler: handler, Protocols: protocols, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.conns.Add(1)
		}
	}}
	go func() { _ = b.http.Serve(ln) }()
	t.Cleanup(func() { _ = b.http.Close() })
	return b
}

// Clients of every version reach a backend that speaks HTTP/2 without TLS, and nothing is lost on the way.
func TestH2C_Backend(t *testing.T) {
	overVersions(t, func(t *testing.T, v version) {
		b := newH2CBackend(t, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("X-Seen", fmt.Sprint(r.Proto, " ", r.Method, " ", r.RequestURI, " ", r.Host, " ", r.ContentLength))
			h.Set("X-Fields", fmt.Sprint(r.Header["X-Twice"], r.Header["Te"], r.Header["User-Agent"], r.Header["X-Forwarded-Proto"],
				r.Header["Connection"], r.Header["Upgrade"]))
			switch r.URL.Path {
			case "/hints":
				h.Set("Link", "</a.css>")
				w.WriteHeader(http.StatusEarlyHints)
				h.Del("Link")
			case "/none":
				w.WriteHeader(http.StatusNoContent)
				return
			case "/cut":
				_, _ = io.WriteString(w, strings.Repeat("x", 5000))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok")
			_ = http.NewResponseController(w).Flush() // Else the library would announce a length, and trailers have no place.
			h.Set(http.TrailerPrefix+"X-Sum", fmt.Sprint(n, "/", r.Trailer.Get("X-Up")))
		})
		e, cert := newMultiEdge(t, one("a.example", b.URL))
		c := v.visit(t, e, cert)
		a := c.do("GET", "//x/%2F/../?q=%20", "a.example", "X-Twice: 1", "X-Twice: 2", "TE: trailers", "User-Agent: me")
		if got, want := a.Header.Get("X-Seen"), "HTTP/2.0 GET //x/%2F/../?q=%20 a.example 0"; got != want {
			t.Errorf("backend saw %q, want %q", got, want)
		}
		if got, want := a.Header.Get("X-Fields"), "[1 2] [trailers] [me] [https] [] []"; got != want {
			t.Errorf("backend saw %q, want %q", got, want)
		}
		if a.body != "ok" || a.Trailer.Get("X-Sum") != "0/" {
			t.Errorf("got %q with trailers %v", a.body, a.Trailer)
		}
		for _, size := range []int64{1, 1000, 500000} {
			for _, known := range []bool{true, false} {
				q := c.request("POST", "/", "a.example", io.LimitReader(endless{}, size))
				q.ContentLength = -1
				if known {
					q.ContentLength = size
				} else {
					q.Trailer = http.Header{"X-Up": {"u"}}
				}
				a := c.send(q)
				want := fmt.Sprint(size, "/")
				if !known {
					want += "u"
				}
				if got := a.Trailer.Get("X-Sum"); got != want || !strings.HasSuffix(a.Header.Get("X-Seen"), fmt.Sprint(" ", q.ContentLength)) {
					t.Errorf("upload of %d: %q, want %q; backend saw %q", size, got, want, a.Header.Get("X-Seen"))
				}
			}
		}
		var hints []string
		q := c.request("GET", "/hints", "a.example", nil)
		q = q.WithContext(withInterim(q.Context(), func(code int, h http.Header) { hints = append(hints, fmt.Sprint(code, h["Link"])) }))
		if a := c.send(q); a.body != "ok" || fmt.Sprint(hints) != "[103[</a.css>]]" && fmt.Sprint(hints) != "[103 [</a.css>]]" {
			t.Errorf("hints %v, then %q", hints, a.body)
		}
		if a := c.do("GET", "/none", "a.example"); a.StatusCode != 204 {
			t.Errorf("status %d", a.StatusCode)
		}
		if a := c.do("HEAD", "/", "a.example"); a.StatusCode != 200 || a.body != "" {
			t.Errorf("HEAD: %d %q", a.StatusCode, a.body)
		}
		resp, err := c.http.Do(c.request("GET", "/cut", "a.example", nil))
		if err == nil {
			if _, err = io.ReadAll(resp.Body); err == nil {
				t.Error("a cut answer looks complete")
			}
		}
		if n := b.conns.Load(); n != 1 {
			t.Errorf("%d connections for requests one after another", n)
		}
		e.awaitInFlight(0)
	})
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Requests at once share connections; those beyond the limit of the backend wait, as at every backend. A connection
// that ends is replaced.
func TestH2C_Pool(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := newH2CBackend(t, func(http.ResponseWriter, *http.Request) { <-release })
	e, cert := newMultiEdge(t, one("a.example", b.URL), func(s *setup) { s.MaxBackendConnections = 40 })
	c := versions[1].visit(t, e, cert)
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { c.do("GET", "/", "a.example") })
	}
	e.awaitInFlight(40)
	busy := make(chan *answer, 1)
	go func() { busy <- c.do("GET", "/", "a.example") }()
	wantStatus(t, <-busy, 503, "backend_busy")
	close(release)
	all.Wait()
	if n := b.conns.Load(); n > 2 {
		t.Errorf("%d connections for 40 requests", n)
	}
	_ = b.http.Close()
	eventually(t, "the end of the connections", func() bool { return c.do("GET", "/", "a.example").StatusCode == 502 })
}

// A backend that is silent is given up after the same times as every other.
func TestH2C_Timeouts(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 2)
	b := newH2CBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	e, cert := newMultiEdge(t, one("a.example", b.URL), func(s *setup) {
		s.ResponseTimeout, s.BackendBodyIdleTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	c := versions[0].visit(t, e, cert)
	wantStatus(t, c.do("GET", "/", "a.example"), 504, "response_timeout")
	resp, err := c.http.Do(c.request("GET", "/body", "a.example", nil))
	if err == nil {
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Error("a cut answer looks complete")
		}
	}
	for range 2 {
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatal("the backend was not told")
		}
	}
}

// HTTP/2 has no 101 (RFC 9113 §8.6): a backend that sends one has not switched to anything.
func TestH2C_SwitchingProtocols(t *testing.T) {
	t.Parallel()
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
			go switchAnyway(c)
		}
	}()
	e := newEdge(t, one("a.example", "h2c://"+ln.Addr().String()))
	a := e.do("GET", "/", "a.example", "Upgrade: websocket", "Connection: upgrade")
	if a.StatusCode != 502 {
		t.Errorf("status %d, want 502", a.StatusCode)
	}
	e.awaitInFlight(0)
	if n := e.metric("sluice_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
}

// switchAnyway answers every request on a connection with a 101.
func switchAnyway(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		h, ok := f.(*http2.HeadersFrame)
		if !ok {
			continue
		}
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, field := range [][2]string{{":status", "101"}, {"upgrade", "websocket"}, {"connection", "upgrade"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = fr.WriteData(h.StreamID, true, []byte("hello"))
	}
}
