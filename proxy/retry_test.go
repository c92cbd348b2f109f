package proxy_test

import (
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
)

// dying is a backend that reads each request in full and ends the connection without an answer.
func dying(t testing.TB) *backendtest.Script {
	return backendtest.Scripted(t, backendtest.Whole(), backendtest.Reset())
}

// Used up: up to RetryOnError attempts more where nothing could be sent, with Hipache's messages.
func TestRetry_CountAndMessages(t *testing.T) {
	t.Parallel()
	var dead []string
	for range 6 {
		dead = append(dead, backendtest.Refused(t))
	}
	for _, tt := range []struct {
		name             string
		retries, backend int
		attempts         float64
		cause, message   string
	}{
		{"four attempts by default", 3, 6, 4, "retries_used_up", "Reached max retries limit"},
		{"one retry", 1, 6, 2, "retries_used_up", "Reached max retries limit"},
		{"no retry", 0, 6, 1, "retries_used_up", "Retry on error is disabled"},
		{"no retry, one backend", 0, 1, 1, "retries_used_up", "Retry on error is disabled"},
		{"only backend once more", 3, 1, 2, "connect_failed", "Cannot connect to the backend"},
		{"each of two once", 3, 2, 2, "connect_failed", "Cannot connect to the backend"},
	} {
		for _, method := range []string{"GET", "POST"} {
			e := newEdge(t, one("a.example", dead[:tt.backend]...), func(s *setup) { s.RetryOnError = tt.retries })
			c := e.dial()
			c.send(request(method, "/", "a.example", "X-Debug: 1", "Content-Length: 4") + "body")
			a := c.answer(method)
			wantStatus(t, a, 502, tt.cause)
			if got := a.Header.Get("X-Debug-Error"); got != tt.message {
				t.Errorf("%s, %s: message %q, want %q", tt.name, method, got, tt.message)
			}
			e.awaitMetric("sluice_attempts_total", tt.attempts)
		}
	}
}

// A refused connection costs nobody a request while another backend lives.
func TestRetry_ConnectFailureIsInvisible(t *testing.T) {
	t.Parallel()
	good := backendtest.Echo(t, "good")
	for _, method := range []string{"GET", "POST", "PURGE"} {
		e := newEdge(t, one("a.example", backendtest.Refused(t), good.URL(), backendtest.Refused(t)))
		for range 10 {
			c := e.dial()
			c.send(request(method, "/", "a.example", "Content-Length: 4") + "body")
			if a := c.answer(method); a.StatusCode != 200 || a.echoed(t).BodyBytes != 4 {
				t.Errorf("%s: status %d", method, a.StatusCode)
			}
		}
	}
}

// What the backend may have processed is sent again once, and only where that is safe.
func TestRetry_ConnectionDiesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 64<<10)
	chunked := "Transfer-Encoding: chunked"
	for _, tt := range []struct {
		name, method, field, body string
		sent                      int // how often both backends together get the request
	}{
		{"GET", "GET", "X-Y: 1", "", 2},
		{"HEAD", "HEAD", "X-Y: 1", "", 2},
		{"OPTIONS", "OPTIONS", "X-Y: 1", "", 2},
		{"DELETE", "DELETE", "X-Y: 1", "", 2},
		{"PUT small", "PUT", "Content-Length: 5", "hello", 2},
		{"PUT large", "PUT", "Content-Length: 65536", large, 1},
		{"PUT chunked", "PUT", chunked, "5\r\nhello\r\n0\r\n\r\n", 1},
		{"POST", "POST", "Content-Length: 5", "hello", 1},
		{"POST empty", "POST", "Content-Length: 0", "", 1},
		{"PATCH", "PATCH", "Content-Length: 5", "hello", 1},
		{"unknown method", "PURGE", "X-Y: 1", "", 1},
	} {
		first, second := dying(t), dying(t)
		e := newEdge(t, one("a.example", first.URL(), second.URL()))
		c := e.dial()
		c.send(request(tt.method, "/", "a.example", tt.field) + tt.body)
		wantStatus(t, c.answer(tt.method), 502, "backend_reset")
		a, b := len(first.Received()), len(second.Received())
		if a+b != tt.sent || a > 1 || b > 1 {
			t.Errorf("%s: backends got %d and %d, want %d in all and never both on one", tt.name, a, b, tt.sent)
		}
	}
}

// The only backend gets a request once more, no oftener.
func TestRetry_OnlyBackendTwice(t *testing.T) {
	t.Parallel()
	b := dying(t)
	e := newEdge(t, one("a.example", b.URL()))
	wantStatus(t, e.get("a.example"), 502, "backend_reset")
	if n := len(b.Received()); n != 2 {
		t.Errorf("sent %d times, want 2", n)
	}
}

// RetryOnError 0 switches every retry off.
func TestRetry_Disabled(t *testing.T) {
	t.Parallel()
	b := dying(t)
	e := newEdge(t, one("a.example", b.URL(), b.URL()+"/same"), func(s *setup) { s.RetryOnError = 0 })
	e.get("a.example")
	if n := len(b.Received()); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

// A connection that dies after bytes of an answer is no reason to send again: the client might see two halves.
func TestRetry_NotAfterBytesOfAnAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, cause string }{
		{"HTTP/1.1 200 OK\r\nContent-Le", "bad_answer"},
		{"H", "bad_answer"},
		{"HTTP/1.1 103 Early Hints\r\n\r\n", "bad_answer"},
	} {
		b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send(tt.text), backendtest.Close())
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("GET", "/", "a.example"))
		a := c.answer("GET")
		for a.StatusCode == 103 {
			a = c.answer("GET")
		}
		wantStatus(t, a, 502, tt.cause)
		if n := len(b.Received()); n != 1 {
			t.Errorf("%q: sent %d times, want once", tt.text, n)
		}
	}
}

// A backend that is at work on a request is not given it again, nor is another.
func TestRetry_NotAfterAResponseTimeout(t *testing.T) {
	t.Parallel()
	first := backendtest.Scripted(t, backendtest.Whole(), backendtest.WaitEnd(patience))
	second := backendtest.Scripted(t, backendtest.Whole(), backendtest.WaitEnd(patience))
	e := newEdge(t, one("a.example", first.URL(), second.URL()), func(s *setup) {
		s.ResponseTimeout = 200 * time.Millisecond
	})
	start := time.Now()
	wantStatus(t, e.get("a.example"), 504, "response_timeout")
	if d := time.Since(start); d < 200*time.Millisecond {
		t.Errorf("gave up after %v", d)
	}
	if n := len(first.Received()) + len(second.Received()); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

// A POST whose connection the backend closed while it was idle is sent on a new one: no byte was lost on the old.
func TestRetry_DeadIdleConnectionIsRedialled(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		b := backendtest.Echo(t, "b")
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.RetryOnError = 0 })
		c := e.dial()
		for i := range 5 {
			c.send(request(method, "/", "a.example", "Content-Length: 5") + "hello")
			if a := c.answer(method); a.StatusCode != 200 {
				t.Fatalf("%s %d: %d %q", method, i, a.StatusCode, a.cause())
			}
			b.CloseConns()
			eventually(t, "the closed connection", func() bool { return b.OpenConns() == 0 })
			time.Sleep(5 * time.Millisecond) // The FIN's way to the edge has no other sign.
		}
		if n := e.metric("sluice_backend_idle_dead_total"); n != 4 {
			t.Errorf("%s: %v dead idle connections counted, want 4", method, n)
		}
		e.awaitMetric("sluice_attempts_total", 5)
	}
}

// Each retry looks the frontend up again: a route that changes meanwhile is followed.
func TestRetry_LooksUpAgain(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	hole, good := backendtest.BlackHole(t), backendtest.Echo(t, "good")
	redis.Do("RPUSH", "frontend:a.example", "id", hole)
	e := newEdge(t, nil, func(s *setup) {
		s.cache.Driver = []string{redis.URL()}
		s.ConnectTimeout = 700 * time.Millisecond
	})
	c := e.dial()
	c.send(request("GET", "/", "a.example"))
	time.Sleep(100 * time.Millisecond) // The attempt is under way.
	redis.Do("RPUSH", "frontend:a.example", good.URL())
	redis.Do("LREM", "frontend:a.example", "1", hole)
	if a := c.answer("GET"); a.Header.Get("X-Backend") != "good" {
		t.Errorf("status %d %q from %q, want 200 from the new backend", a.StatusCode, a.cause(), a.Header.Get("X-Backend"))
	}
}

// No attempt starts after RetryTimeout.
func TestRetry_Timeout(t *testing.T) {
	t.Parallel()
	good := backendtest.Echo(t, "good")
	e := newEdge(t, routeList{
		"a.example": {"a", backendtest.BlackHole(t), backendtest.BlackHole(t), backendtest.BlackHole(t), backendtest.BlackHole(t)},
		"b.example": {"b", good.URL()},
	}, func(s *setup) {
		s.ConnectTimeout, s.RetryTimeout = 150*time.Millisecond, 200*time.Millisecond
	})
	wantStatus(t, e.get("a.example"), 504, "retry_timeout")
	e.awaitMetric("sluice_attempts_total", 2)
	if a := e.get("b.example"); a.StatusCode != 200 {
		t.Errorf("another frontend: %d", a.StatusCode)
	}
}

// A frontend whose backends all fail does not double their load: retries have a budget.
func TestRetry_Budget(t *testing.T) {
	t.Parallel()
	b := dying(t)
	e := newEdge(t, one("a.example", b.URL()))
	causes := map[string]int{}
	for range 300 { // The budget's window may turn over once: one of its parts still has more than 100 requests.
		causes[e.get("a.example").cause()]++
	}
	refused := e.metric("sluice_retries_refused_total")
	if causes["retries_used_up"] == 0 || refused != float64(causes["retries_used_up"]) {
		t.Errorf("causes %v and %v refused retries, want both", causes, refused)
	}
	if n := len(b.Received()); n < 400 || n > 500 {
		t.Errorf("300 requests were sent %d times, want 400, or 500 in two windows", n)
	}
}

// A body that the client trickles in is not lost to a failed connection.
func TestRetry_SmallBodyInPieces(t *testing.T) {
	t.Parallel()
	good := backendtest.Echo(t, "good")
	e := newEdge(t, one("a.example", backendtest.Refused(t), good.URL()))
	for range 5 {
		c := e.dial()
		c.send(request("POST", "/", "a.example", "Content-Length: 10") + "hel")
		c.send("lo")
		c.send("world")
		if q := c.answer("POST").echoed(t); q.BodyBytes != 10 {
			t.Errorf("backend got %d bytes", q.BodyBytes)
		}
	}
}
