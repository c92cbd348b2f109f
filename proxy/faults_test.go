package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// Toxics that the cases share. A reset_peer that touches nothing makes the end that another toxic brings an RST.
const (
	silence    = `{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`
	blackHole  = `{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`
	byRST      = `{"type":"reset_peer","stream":"upstream","toxicity":0,"attributes":{"timeout":0}}`
	resetsUp   = `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`
	resetsDown = `{"type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`
)

// after ends the connection behind so many bytes of the answer.
func after(bytes int) string {
	return fmt.Sprintf(`{"type":"limit_data","stream":"downstream","attributes":{"bytes":%d}}`, bytes)
}

// Times of the cases: what a fault is given, and what it may take at most. The difference is slack for a busy machine.
const (
	faultLimit = 300 * time.Millisecond
	faultBound = 3 * time.Second
)

// faultHead and faultBody are the answer of the backend behind a wire.
const (
	faultHead = "HTTP/1.1 200 OK\r\nX-Backend: b\r\nContent-Length: 100\r\n\r\n"
	faultSize = 100
)

// faultCase is a way for the network to fail before the head of an answer has reached the edge.
type faultCase struct {
	name   string
	toxics []string
	method string
	body   int // bytes of the request
	status int
	cause  string
	sends  int // requests that the backend is sent at most
}

var faultCases = []faultCase{
	{"late answer", []string{`{"type":"latency","attributes":{"latency":2000}}`}, "GET", 0, 504, "response_timeout", 1},
	{"no answer", []string{silence}, "GET", 0, 504, "response_timeout", 1},
	{"no answer to a POST", []string{silence}, "POST", 100, 504, "response_timeout", 1},
	{"request lost", []string{blackHole}, "GET", 0, 504, "response_timeout", 0},
	{"upload lost", []string{blackHole}, "POST", 200 << 10, 504, "response_timeout", 0},
	{"silent, then closed", []string{`{"type":"timeout","attributes":{"timeout":100}}`}, "GET", 0, 502, "backend_reset", 2},
	{"reset before the head", []string{resetsDown}, "GET", 0, 502, "backend_reset", 2},
	{"reset before the head of a POST", []string{resetsDown}, "POST", 100, 502, "backend_reset", 1},
	{"reset on the way up", []string{resetsUp}, "PUT", 100, 502, "backend_reset", 0},
	{"reset on the way up, POST", []string{resetsUp}, "POST", 100, 502, "backend_reset", 0},
	{"reset in the upload", []string{resetsUp}, "POST", 200 << 10, 502, "backend_reset", 0},
	{"closed before the head", []string{after(0)}, "GET", 0, 502, "backend_reset", 2},
	{"closed in the status line", []string{after(5)}, "GET", 0, 502, "bad_answer", 1},
	{"closed in a field", []string{after(25)}, "GET", 0, 502, "bad_answer", 1},
	{"closed before the last line feed", []string{after(len(faultHead) - 1)}, "GET", 0, 502, "bad_answer", 1},
	// An RST can overtake the bytes before it: then it came before the head, and a GET is sent once more.
	{"reset in the status line", []string{byRST, after(5)}, "GET", 0, 502, "backend_reset", 2},
	{"reset in a field", []string{byRST, after(25)}, "POST", 100, 502, "backend_reset", 1},
}

// Whatever the network does before an answer's head is there, the client gets an answer with the cause, in time, and the
// cause is counted.
func TestFaults_BeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range faultCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := backendtest.Scripted(t, backendtest.Loop(backendtest.Whole(),
				backendtest.Send(faultHead+strings.Repeat("x", faultSize))))
			w := newWire(t, b.Addr(), tt.toxics...)
			e := newEdge(t, one("a.example", w.url()), func(s *setup) { s.ResponseTimeout = faultLimit })
			c, start := e.dial(), time.Now()
			go func() { // The answer may come while the body is on its way.
				_, _ = c.Write([]byte(request(tt.method, "/", "a.example", "Content-Length: "+strconv.Itoa(tt.body)) +
					strings.Repeat("x", tt.body)))
			}()
			wantStatus(t, c.answer(tt.method), tt.status, tt.cause)
			if d := time.Since(start); d > faultBound {
				t.Errorf("answered after %v, want within %v", d, faultBound)
			}
			if n := b.Requests(); n > tt.sends {
				t.Errorf("the backend was sent %d requests, want at most %d", n, tt.sends)
			}
			e.awaitMetric(`sluice_errors_total{cause="`+tt.cause+`"}`, 1)
			e.awaitMetric(`sluice_requests_total{status="5xx"}`, 1)
			if n := e.metric(`sluice_attempt_errors_total{cause="` + tt.cause + `"}`); n < 1 {
				t.Errorf("%v failed attempts counted", n)
			}
		})
	}
}

// A fault behind the head ends the answer so that the client can't take the part for the whole. It is counted like others.
func TestFaults_InTheBody(t *testing.T) {
	t.Parallel()
	const half = len(faultHead) + faultSize/2
	for _, tt := range []struct {
		name   string
		toxics []string
		cause  string
	}{
		{"closed behind the head", []string{after(len(faultHead))}, "backend_reset"},
		{"closed in the body", []string{after(half)}, "backend_reset"},
		{"closed before the last byte", []string{after(len(faultHead) + faultSize - 1)}, "backend_reset"},
		{"reset behind the head", []string{byRST, after(len(faultHead))}, "backend_reset"},
		{"reset in the body", []string{byRST, after(half)}, "backend_reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := backendtest.Scripted(t, backendtest.Loop(backendtest.Whole(),
				backendtest.Send(faultHead+strings.Repeat("x", faultSize))))
			w := newWire(t, b.Addr(), tt.toxics...)
			e := newEdge(t, one("a.example", w.url()))
			c := e.dial()
			c.send(request("POST", "/", "a.example", "Content-Length: 0"))
			a, err := readAnswer(c.r, "POST")
			if err == nil && a.cause() != tt.cause { // What overtook the head is told in its place.
				t.Errorf("%d %q with cause %q looks complete", a.StatusCode, a.body, a.cause())
			}
			if isTimeout(err) {
				t.Error("the connection was left open")
			}
			e.awaitMetric(`sluice_errors_total{cause="`+tt.cause+`"}`, 1)
		})
	}
}

// A network that goes silent in the midst of things is noticed: in a body, and on a connection that is used again.
func TestFaults_GoesSilentLater(t *testing.T) {
	t.Parallel()
	t.Run("in a body", func(t *testing.T) {
		t.Parallel()
		more := make(chan struct{})
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			if _, err := c.ReadRequest(); err != nil {
				return
			}
			_, _ = c.WriteString(faultHead + "half")
			<-more
			_, _ = c.WriteString(strings.Repeat("x", faultSize-len("half")))
			_, _ = c.ReadHead() // It stays until the edge leaves: its FIN would pass the silence.
		})
		w := newWire(t, b.Addr())
		e := newEdge(t, one("a.example", w.url()), func(s *setup) { s.BackendBodyIdleTimeout = faultLimit })
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		a, err := readAnswerHead(c.r, "GET")
		if err != nil {
			t.Fatal(err)
		}
		w.poison(silence)
		close(more)
		start := time.Now()
		if n, err := discard(a.Body); err == nil || isTimeout(err) {
			t.Errorf("the body ended after %d bytes with %v, want it cut", n, err)
		}
		if d := time.Since(start); d > faultBound {
			t.Errorf("cut after %v, want within %v", d, faultBound)
		}
		e.awaitMetric(`sluice_errors_total{cause="response_timeout"}`, 1)
	})
	t.Run("on a kept connection", func(t *testing.T) {
		t.Parallel()
		b := backendtest.Echo(t, "b")
		w := newWire(t, b.Addr())
		e := newEdge(t, one("a.example", w.url()), func(s *setup) { s.ResponseTimeout = faultLimit })
		c := e.dial()
		c.wantAlive("a.example")
		w.poison(blackHole)
		start := time.Now()
		wantStatus(t, c.do("GET", "/", "a.example"), 504, "response_timeout")
		if d := time.Since(start); d > faultBound {
			t.Errorf("answered after %v, want within %v", d, faultBound)
		}
		if n := b.Connects(); n != 1 {
			t.Errorf("%d backend connections: the fault was not on a kept one", n)
		}
		e.awaitMetric(`sluice_errors_total{cause="response_timeout"}`, 1)
	})
}

// A network that is slow, or delivers in crumbs, is no fault: everything arrives, byte for byte.
func TestFaults_SlowAndSlicedPass(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<11) // 32 KiB
	sum := sha256.Sum256(body)
	for _, tt := range []struct {
		name    string
		toxics  []string
		size    int
		atLeast time.Duration
	}{
		{"latency", []string{
			`{"type":"latency","attributes":{"latency":120,"jitter":20}}`,
			`{"type":"latency","stream":"upstream","attributes":{"latency":120,"jitter":20}}`,
		}, len(body), 200 * time.Millisecond},
		{"sliced", []string{
			`{"type":"slicer","attributes":{"average_size":3,"size_variation":2,"delay":10}}`,
			`{"type":"slicer","stream":"upstream","attributes":{"average_size":3,"size_variation":2,"delay":10}}`,
		}, 2 << 10, 0},
		{"narrow", []string{ // What the wire's own buffers hold is on its way for most of a second after it was sent.
			`{"type":"bandwidth","attributes":{"rate":50}}`,
			`{"type":"bandwidth","stream":"upstream","attributes":{"rate":50}}`,
		}, len(body), 500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := backendtest.Echo(t, "b")
			w := newWire(t, b.Addr(), tt.toxics...)
			e := newEdge(t, one("a.example", w.url()), func(s *setup) {
				s.ResponseTimeout, s.BackendBodyIdleTimeout = 5*time.Second, 5*time.Second
			})
			want := sum
			if tt.size < len(body) {
				want = sha256.Sum256(body[:tt.size])
			}
			for _, chunked := range []bool{false, true} {
				c, start := e.dial(), time.Now()
				if chunked {
					c.send(request("POST", "/", "a.example", "Transfer-Encoding: chunked"))
					for rest := body[:tt.size]; len(rest) > 0; {
						n := min(1000, len(rest))
						c.send(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
						rest = rest[n:]
					}
					c.send("0\r\n\r\n")
				} else {
					c.send(request("POST", "/", "a.example", "Content-Length: "+strconv.Itoa(tt.size)))
					c.send(string(body[:tt.size]))
				}
				a := c.answer("POST")
				if q := a.echoed(t); a.StatusCode != 200 || q.BodySHA256 != hex.EncodeToString(want[:]) {
					t.Errorf("chunked %v: %d, the backend got %d bytes with sum %s", chunked, a.StatusCode, q.BodyBytes, q.BodySHA256)
				}
				if d := time.Since(start); d < tt.atLeast {
					t.Errorf("chunked %v: answered after %v: the wire was not as slow as it should be", chunked, d)
				}
			}
		})
	}
}

// A backend that flaps costs no client an answer: while it is away it is marked and left alone, and when the mark ends it
// gets requests again. Another backend of the frontend carries the load meanwhile.
func TestFaults_FlappingBackend(t *testing.T) {
	t.Parallel()
	flapping, steady := backendtest.Echo(t, "flapping"), backendtest.Echo(t, "steady")
	w := newWire(t, flapping.Addr())
	e := newEdge(t, one("a.example", w.url(), steady.URL()), func(s *setup) { s.cache.DeadTTL = time.Second })
	load := newLoad(t, e, "a.example")
	for round := range 2 {
		load.await("flapping")
		w.cut()
		marks := e.metric("sluice_backend_marks_total")
		eventually(t, "the mark", func() bool { return e.metric("sluice_backend_marks_total") > marks })
		dials := e.metric(`sluice_attempt_errors_total{cause="connect_failed"}`)
		for start := time.Now(); time.Since(start) < faultLimit; {
			load.await("steady")
		}
		// Requests that had chosen it before it was marked may come in late; there are as many as clients.
		if n := e.metric(`sluice_attempt_errors_total{cause="connect_failed"}`) - dials; n > loadClients {
			t.Errorf("round %d: %v dials to a backend that is marked", round, n)
		}
		w.mend()
	}
	load.await("flapping")
	if n := load.stop(); n < 100 {
		t.Errorf("%d answers only", n)
	}
}

// loadClients is how many clients a load has.
const loadClients = 4

// load is clients that ask for the same thing again and again. Any answer but 200 fails the test.
type load struct {
	t    testing.TB
	end  chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	answers map[string]int // by backend
}

func newLoad(t testing.TB, e *edge, host string) *load {
	l := &load{t: t, end: make(chan struct{}), answers: map[string]int{}}
	for range loadClients {
		c := e.dial()
		l.done.Go(func() { l.ask(c, host) })
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) ask(c *client, host string) {
	for {
		select {
		case <-l.end:
			return
		case <-time.After(time.Millisecond):
		}
		if _, err := c.Write([]byte(request("GET", "/", host))); err != nil {
			l.t.Errorf("load: %v", err)
			return
		}
		a, err := readAnswer(c.r, "GET")
		if err != nil || a.StatusCode != 200 {
			l.t.Errorf("load: %+v, %v; want 200", a, err)
			return
		}
		l.mu.Lock()
		l.answers[a.Header.Get("X-Backend")]++
		l.mu.Unlock()
	}
}

func (l *load) count(backend string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[backend]
}

// await waits for another answer of a backend.
func (l *load) await(backend string) {
	l.t.Helper()
	before := l.count(backend)
	eventually(l.t, "an answer of "+backend, func() bool { return l.count(backend) > before })
}

// stop ends the load once and returns how many answers came.
func (l *load) stop() (n int) {
	select {
	case <-l.end:
	default:
		close(l.end)
	}
	l.done.Wait()
	for _, count := range l.answers {
		n += count
	}
	return n
}
