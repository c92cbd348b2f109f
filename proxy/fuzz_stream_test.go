package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"sluice/cache"
)

// memoryServer is a Server that serves connections in memory.
func memoryServer(t testing.TB) *Server {
	t.Helper()
	cfg := DefaultConfig()
	routes := startRoutes(t, map[string][]string{"frontend:h": {"id", "http://127.0.0.1:1"}})
	s := &Server{log: slog.New(slog.DiscardHandler), conns: newConnections(), routes: routes}
	s.cfg.Store(&cfg)
	s.pools.m, s.pools.srv = make(map[string]*pool), s
	s.metrics = newProxyMetrics(metrics.NewSet(), s)
	return s
}

// memoryClient returns a client connection of s that reads what is in c.
func (s *Server) memoryClient(c *memoryConn) *clientConn {
	a := &acceptedConn{Conn: c, link: newLink(c), bind: &boundListener{srv: s}, addr: netip.MustParseAddr("198.51.100.7")}
	a.rw = a.link
	return acquireClientConn(s, a)
}

// memoryBackend returns a backend connection of s, held by x, that reads what is in c.
func (s *Server) memoryBackend(x *exchange, c *memoryConn) *backendConn {
	p := &pool{srv: s, freed: make(chan struct{}, 1)}
	p.active.Add(1)
	bc := &backendConn{Conn: c, pool: p, link: newLink(c), lease: &countingLease{}, wait: x, uses: 1}
	bc.rw = bc.link
	bc.source.read = bc.readBytes
	bc.held.Store(true)
	bc.buf.acquire(backendBuffer)
	x.pool, x.up = p, bc
	return bc
}

// countingLease counts what becomes of a connection.
type countingLease struct{ kept, dropped int }

func (l *countingLease) keep() { l.kept++ }
func (l *countingLease) drop() { l.dropped++ }

// message is one request or answer as a reader of HTTP sees it.
type message struct{ start, host, body string }

// String shows white space and control bytes.
func (m message) String() string { return fmt.Sprintf("%q from %q with %q", m.start, m.host, m.body) }

// FuzzRequestStream: whatever a client sends, the requests that reach a backend are the ones that net/http reads off the
// same bytes, in number, framing and content, unless one of the two refuses; and one that is cut or broken never looks
// complete to the backend.
func FuzzRequestStream(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /c HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;a=b\r\nhello\r\n1\r\nx\r\n0\r\nX: y\r\nHost: z\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello\r\nGET http://i:81/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /",
		"POST /a HTTP/1.1\r\nHost: h\r\nConnection: Content-Length, X\r\nContent-Length: 20000\r\n\r\nhello",
		"POST /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nabPUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n00\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent_Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nxOPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(60000))
		f.Add([]byte(seed), uint16(1))
	}
	s := memoryServer(f)
	f.Fuzz(func(t *testing.T, raw []byte, piece uint16) {
		got, complete := s.forwarded(&memoryConn{in: raw, piece: int(piece)})
		var want []message
		r := bufio.NewReader(bytes.NewReader(got))
		for range complete {
			m, err := readRequest(r)
			if err != nil && badTarget(err) {
				return // net/http insists on a target that it can parse; applications need not.
			}
			if err != nil {
				t.Fatalf("%q became %q, of which net/http reads %v, then %v; want %d requests", raw, got, want, err, complete)
			}
			want = append(want, m)
		}
		if m, err := readRequest(r); err == nil {
			t.Fatalf("%q became %q: the broken end of it looks complete: %v", raw, got, m)
		}
		client := bufio.NewReader(bytes.NewReader(raw))
		for i, m := range want {
			direct, err := readRequest(client)
			if err != nil || strings.HasPrefix(m.start, "OPTIONS ") {
				return // An absolute target without a path is * with OPTIONS, to net/http it is /.
			}
			if at := strings.Index(direct.start, "://"); at > 0 && !strings.Contains(direct.start[:at], "/") {
				direct.start = m.start // An absolute target has lost its authority.
			}
			if direct != m {
				t.Fatalf("%q became %q: request %d is %v, net/http reads %v without us", raw, got, i, m, direct)
			}
		}
	})
}

// forwarded returns what a backend gets of a client's bytes, and how many requests of it are complete.
func (s *Server) forwarded(in *memoryConn) (out []byte, complete int) {
	c := s.memoryClient(in)
	defer c.release()
	x, sent := &c.x, &memoryConn{}
	for c.awaitRequest() == waitBegun && x.err.Kind == KindNone && !s.answersItself(x) {
		e := s.admit(x)
		if e.Kind == KindNone {
			e = x.down.collectBody()
		}
		if e.Kind != KindNone {
			break
		}
		s.memoryBackend(x, sent)
		e = x.send()
		if e.Kind == KindNone && x.announced {
			e = x.askForBody()
		}
		if x.upload.running() || x.upload.failed() {
			<-x.upload.done
			x.upload.done <- struct{}{}
			e = x.upload.err
		}
		x.letGo(false)
		c.finishMessage()
		if e.Kind != KindNone {
			break
		}
		if complete++; x.closing || !x.req.keepAlive {
			break
		}
	}
	return sent.out.Bytes(), complete
}

func badTarget(err error) bool {
	return strings.Contains(err.Error(), "invalid URI") || strings.Contains(err.Error(), "parse \"")
}

// readRequest reads a request to its end.
func readRequest(r *bufio.Reader) (message, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return message{}, err
	}
	body, err := io.ReadAll(req.Body)
	return message{req.Method + " " + req.RequestURI, req.Host, string(body)}, err
}

// FuzzResponseStream: what a client gets for a backend's bytes is a message that net/http reads to its end if we took it for
// whole, and otherwise none; where net/http reads the backend's bytes itself, it finds the same status and body. A
// connection is kept only if nothing is left on it.
func FuzzResponseStream(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nConnection: Y\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\nY: z\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length : 5\n a\n\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 205 Reset\r\n\r\n", "HTTP/1.1 426 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
	} {
		for how := range byte(8) {
			f.Add([]byte(seed), how, uint16(60000))
		}
		f.Add([]byte(seed), byte(0), uint16(1))
	}
	s := memoryServer(f)
	route := lookUp(f, s.routes, "h")
	f.Fuzz(func(t *testing.T, raw []byte, how byte, piece uint16) {
		method, version := "GET", "1.1"
		if how&1 != 0 {
			method = "HEAD"
		}
		if how&2 != 0 {
			version = "1.0\r\nConnection: keep-alive"
		}
		debug := how&4 != 0
		in := &memoryConn{in: raw, piece: int(piece)}
		got, whole, lease := s.relayed(t, method+" / HTTP/"+version+"\r\nHost: h\r\n\r\n", in, &route, debug)
		if lease.kept+lease.dropped != 1 {
			t.Fatalf("%q: kept %d times, dropped %d times", raw, lease.kept, lease.dropped)
		}
		seen, err := readFinal(bufio.NewReader(bytes.NewReader(got)), method)
		if err != nil && strings.Contains(err.Error(), "malformed MIME header") {
			return // net/http refuses control bytes that backends may send.
		}
		if whole && err != nil {
			t.Fatalf("%q became %q, which net/http does not read to its end: %v", raw, got, err)
		}
		if !whole {
			// A client of HTTP/1.0 learns of a cut by the reset only.
			if err == nil && !bytes.HasPrefix([]byte(version), []byte("1.0")) {
				t.Fatalf("%q became %q: a broken answer looks complete", raw, got)
			}
			return
		}
		backend := bufio.NewReader(bytes.NewReader(raw))
		direct, err := readFinal(backend, method)
		if err == nil && seen != direct && !hasSpacedColon(raw) {
			t.Fatalf("%q became %q: a client reads %v, without us %v", raw, got, seen, direct)
		}
		// Bytes that did not come with the answer's last read are found by a look before the next use.
		if err == nil && seen == direct && lease.kept == 1 && len(raw) <= int(piece) && len(raw) < backendBuffer && backend.Buffered() > 0 {
			t.Fatalf("%q: kept with %d bytes left", raw, backend.Buffered())
		}
	})
}

// relayed returns what a client gets of a backend's bytes, whether the answer was whole, and what became of the backend's
// connection.
func (s *Server) relayed(t *testing.T, request string, in *memoryConn, route *cache.Route, debug bool,
) (out []byte, whole bool, lease *countingLease) {
	t.Helper()
	client := &memoryConn{in: []byte(request), piece: len(request)}
	c := s.memoryClient(client)
	defer c.release()
	x := &c.x
	if c.awaitRequest() != waitBegun || x.err.Kind != KindNone || s.admit(x).Kind != KindNone || x.down.collectBody().Kind != KindNone {
		t.Fatalf("%q was refused: %v", request, x.err)
	}
	x.route, x.routed, x.debug = *route, true, debug
	x.backend = &route.Frontend().Backends[0]
	up := s.memoryBackend(x, in)
	e := x.send()
	if e.Kind == KindNone {
		e = x.awaitHead()
	}
	if e.Kind == KindNone && x.res.status != 101 {
		e = s.relay(x)
	} else {
		e.Kind = max(e.Kind, KindBadAnswer)
		x.letGo(false)
	}
	if e.Kind != KindNone {
		_ = c.flush() // What was held back may go out or not.
	}
	c.finishMessage()
	return client.out.Bytes(), e.Kind == KindNone, up.lease.(*countingLease)
}

// readFinal reads interim answers and a final one to its end.
func readFinal(r *bufio.Reader, method string) (message, error) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return message{}, err
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode >= 200 || err != nil {
			return message{resp.Status[:3], "", string(body)}, err
		}
	}
}
