package proxy_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// ownAnswer provokes one cause of X-Sluice-Error.
type ownAnswer struct {
	cause   string
	status  int
	edge    func(t *testing.T) *edge
	request string
	closes  bool // the client's connection ends with the answer
}

// toBackend makes an edge that routes a.example to backends.
func toBackend(change func(*setup), backends ...string) func(t *testing.T) *edge {
	return func(t *testing.T) *edge {
		if change == nil {
			return newEdge(t, one("a.example", backends...))
		}
		return newEdge(t, one("a.example", backends...), change)
	}
}

// noStore makes an edge whose Redis refuses connections.
func noStore(t *testing.T) *edge {
	return newEdge(t, nil, func(s *setup) { s.cache.Driver = []string{"redis://" + backendtest.Refused(t)} })
}

// limitedLookups makes an edge that has used up its lookups of unknown hosts.
func limitedLookups(t *testing.T) *edge {
	redis := redistest.Start(t)
	e := newEdge(t, nil, func(s *setup) { s.cache.Driver, s.cache.MaxMissRate = []string{redis.URL()}, 1 })
	c := e.dial()
	for i := 0; c.do("GET", "/", fmt.Sprintf("u%d.example", i)).cause() != "lookup_limited"; i++ {
		if i == 1000 {
			t.Fatal("lookups of unknown hosts are not limited")
		}
	}
	e.awaitMetric(`sluice_errors_total{cause="lookup_limited"}`, 1) // It is counted after the answer.
	return e
}

// drainingEdge makes an edge that has begun to drain.
func drainingEdge(t *testing.T) *edge {
	e := newEdge(t, routeList{})
	e.server.BeginDrain()
	return e
}

// busyEdge makes an edge whose backend has its only connection in use.
func busyEdge(t *testing.T) *edge {
	b := backendtest.Silent(t)
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.MaxBackendConnections = 1 })
	for range 2 { // One at work, one in the queue.
		e.dial().send(request("GET", "/", "a.example"))
	}
	eventually(t, "the request at work", func() bool { return b.Connects() == 1 })
	return e
}

// ownAnswers holds every cause that a client can get.
func ownAnswers(t *testing.T) []ownAnswer {
	get := request("GET", "/", "a.example")
	plain := toBackend(nil, backendtest.Echo(t, "b").URL())
	withLimits := toBackend(func(s *setup) {
		s.HeaderTimeout, s.MaxBodyBytes, s.MaxHeaderBytes = 200*time.Millisecond, 10, 1000
	}, backendtest.Echo(t, "b").URL())
	hops := strings.Repeat("192.0.2.1, ", 21) + "192.0.2.1"
	return []ownAnswer{
		{"bad_request", 400, plain, request("GET", "/", "a.example", "Content-Length: x"), true},
		{"no_host", 400, plain, "GET / HTTP/1.1\r\n\r\n", true},
		{"bad_host", 400, plain, request("GET", "/", "a;b"), true},
		{"unknown_host", 400, plain, request("GET", "/", "u.example"), false},
		{"method_refused", 405, plain, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", true},
		{"request_timeout", 408, withLimits, "GET / HTTP/1.1\r\nHost: a.exam", true},
		{"body_too_large", 413, withLimits, request("POST", "/", "a.example", "Content-Length: 11") + "hello world", true},
		{"target_too_long", 414, withLimits, request("GET", "/"+strings.Repeat("x", 1000), "a.example"), true},
		{"head_too_large", 431, withLimits, request("GET", "/", "a.example", "X: "+strings.Repeat("x", 1000)), true},
		{"no_backend", 502, toBackend(nil), get, false},
		{"backend_invalid", 502, toBackend(nil, "http://"), get, false},
		{"connect_failed", 502, toBackend(nil, backendtest.Refused(t)), get, false},
		{"connect_timeout", 502, toBackend(func(s *setup) {
			s.ConnectTimeout = 100 * time.Millisecond
		}, backendtest.BlackHole(t)), get, false},
		{"backend_reset", 502, toBackend(nil, dying(t).URL()), get, false},
		{"bad_answer", 502, toBackend(nil, backendtest.Canned(t, "nonsense\r\n\r\n").URL()), get, false},
		{"retries_used_up", 502, toBackend(func(s *setup) { s.RetryOnError = 0 }, backendtest.Refused(t)), get, false},
		{"internal", 502, func(t *testing.T) *edge {
			return newEdge(t, nil, func(s *setup) { s.noRoutes = true })
		}, get, true},
		{"store_unavailable", 503, noStore, get, false},
		{"lookup_limited", 503, limitedLookups, request("GET", "/", "another.example"), false},
		{"backend_busy", 503, busyEdge, get, false},
		{"draining", 503, drainingEdge, request("GET", "/", "__ping__"), false},
		{"response_timeout", 504, toBackend(func(s *setup) {
			s.ResponseTimeout = 100 * time.Millisecond
		}, backendtest.Silent(t).URL()), get, false},
		{"retry_timeout", 504, toBackend(func(s *setup) {
			s.ConnectTimeout, s.RetryTimeout = 100*time.Millisecond, 50*time.Millisecond
		}, backendtest.BlackHole(t)), get, false},
		{"loop", 508, plain, request("GET", "/", "a.example", "X-Forwarded-For: "+hops), false},
	}
}

// Every cause of the closed set can happen, has its status, and is counted; none names an address.
func TestOwnAnswers_ClosedSet(t *testing.T) {
	t.Parallel()
	address := regexp.MustCompile(`127\.0\.0\.1|\d+\.\d+\.\d+\.\d+`)
	var causes []string
	for _, tt := range ownAnswers(t) {
		causes = append(causes, tt.cause)
		t.Run(tt.cause, func(t *testing.T) {
			t.Parallel()
			e := tt.edge(t)
			series := `sluice_errors_total{cause="` + tt.cause + `"}`
			before := e.metric(series)
			c := e.dial()
			c.send(tt.request)
			a := c.answer(strings.Fields(tt.request)[0])
			wantStatus(t, a, tt.status, tt.cause)
			var head bytes.Buffer
			_ = a.Header.Write(&head)
			if address.Match(head.Bytes()) || address.MatchString(a.body) {
				t.Errorf("the answer names an address:\n%s\n%s", &head, a.body)
			}
			if a.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
			}
			if (a.StatusCode == 503 && tt.cause != "draining" && tt.cause != "backend_busy") != (a.Header.Get("Retry-After") != "") {
				t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
			}
			if a.Close != tt.closes {
				t.Errorf("Connection: close is %v, want %v", a.Close, tt.closes)
			}
			if tt.closes {
				c.wantEnd()
			}
			if tt.cause != "draining" { // A ping is answered, not failed.
				e.awaitMetric(series, before+1)
			}
		})
	}
	e := newEdge(t, routeList{})
	// "misdirected" is for streams: TestH2_Misdirected.
	var set bytes.Buffer
	e.metrics.WritePrometheus(&set)
	for _, m := range regexp.MustCompile(`sluice_errors_total\{cause="(\w+)"\}`).FindAllStringSubmatch(set.String(), -1) {
		if cause := m[1]; cause != "client_gone" && cause != "misdirected" && !slices.Contains(causes, cause) {
			t.Errorf("no test provokes cause %q", cause)
		}
	}
}

// TestOwnAnswers_Panic: a panic costs one request its answer, is told with its stack, and the server lives.
func TestOwnAnswers_Panic(t *testing.T) {
	t.Parallel()
	var ops logtest.Buffer
	e := newEdge(t, nil, func(s *setup) { s.noRoutes, s.opsLog = true, &ops })
	c := e.dial()
	c.send(request("POST", "/", "a.example", "Content-Length: 5") + "hello")
	a := c.answer("POST")
	wantStatus(t, a, 502, "internal")
	c.wantEnd()
	if a := e.get("__ping__"); a.StatusCode != 200 {
		t.Errorf("ping after the panic: %d", a.StatusCode)
	}
	if n := e.metric("sluice_panics_total"); n != 1 {
		t.Errorf("%v panics counted, want 1", n)
	}
	eventually(t, "the stack in the log", func() bool {
		return strings.Contains(ops.String(), "panic in a request") && strings.Contains(ops.String(), "handler.go")
	})
	if line := e.awaitLog(1)[0]; !strings.Contains(line, ` 502 `) {
		t.Errorf("log line %q", line)
	}
}

// What a client can repeat must not fill the log: lines about panics are thinned out, and all of them are counted.
func TestOwnAnswers_PanicsInTheLog(t *testing.T) {
	t.Parallel()
	var ops logtest.Buffer
	e := newEdge(t, nil, func(s *setup) { s.noRoutes, s.opsLog = true, &ops })
	const panics, most = 60, 2 * 20 // A window of time may end meanwhile.
	for range panics {
		wantStatus(t, e.get("a.example"), 502, "internal")
	}
	e.awaitMetric("sluice_panics_total", panics)
	if n := strings.Count(ops.String(), "panic in a request"); n == 0 || n > most {
		t.Errorf("%d lines about %d panics, want at most %d", n, panics, most)
	}
}

// A panic that the request's own fence can't mend costs the connection, not the process.
func TestOwnAnswers_PanicInTheErrorAnswer(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{}, func(s *setup) { s.noPages = true })
	c := e.dial()
	c.send(request("GET", "/", "unknown.example"))
	c.wantEnd()
	if a := e.get("__ping__"); a.StatusCode != 200 {
		t.Errorf("ping after the panic: %d", a.StatusCode)
	}
	if n := e.metric("sluice_panics_total"); n != 2 {
		t.Errorf("%v panics counted, want that in the answer and that in the fence", n)
	}
	e.awaitMetric("sluice_connections", 0)
}

// The operator's log says what failed, for whom and where; a flood of one kind is thinned out.
func TestOwnAnswers_OperationalLog(t *testing.T) {
	t.Parallel()
	var ops logtest.Buffer
	address := backendtest.Refused(t)
	e := newEdge(t, routeList{"a.example": {"my site", address}}, func(s *setup) { s.opsLog = &ops })
	for range 100 {
		e.get("a.example")
	}
	text := ops.String()
	for _, want := range []string{"cause=connect_failed", "refused", "host=a.example", `vhost="my site"`, address, "client=127.0.0.1"} {
		if !strings.Contains(text, want) {
			t.Errorf("log lacks %q:\n%.500s", want, text)
		}
	}
	if n := strings.Count(text, "request failed"); n == 0 || n > 40 {
		t.Errorf("%d lines for 100 failures, want a few", n)
	}
	e.awaitMetric(`sluice_errors_total{cause="connect_failed"}`, 100)
}

// HEAD gets the head of an error page only.
func TestOwnAnswers_HeadHasNoBody(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{})
	c := e.dial()
	a := c.do("HEAD", "/", "u.example")
	if a.StatusCode != 400 || a.ContentLength <= 0 || a.body != "" {
		t.Errorf("%d of %d bytes with body %q", a.StatusCode, a.ContentLength, a.body)
	}
	if a := c.do("GET", "/", "u.example"); a.StatusCode != 400 || int64(len(a.body)) != a.ContentLength {
		t.Errorf("next answer: %d of %d bytes with %d", a.StatusCode, a.ContentLength, len(a.body))
	}
}

// Methods for tunnels and loops are never passed, and say what is.
func TestOwnAnswers_MethodRefused(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	for _, line := range []string{"TRACE /", "CONNECT a.example:80", "CONNECT /"} {
		c := e.dial()
		c.send(line + " HTTP/1.1\r\nHost: a.example\r\n\r\n")
		a := c.answer("GET")
		wantStatus(t, a, 405, "method_refused")
		if allow := a.Header.Get("Allow"); !strings.Contains(allow, "GET") || strings.Contains(allow, "TRACE") {
			t.Errorf("%s: Allow %q", line, allow)
		}
	}
	if a := e.do("OPTIONS", "/", "a.example", "Max-Forwards: 0"); a.StatusCode != 200 || a.Header.Get("Allow") == "" {
		t.Errorf("OPTIONS with Max-Forwards 0: %d with Allow %q", a.StatusCode, a.Header.Get("Allow"))
	}
	if n := b.Requests(); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}
