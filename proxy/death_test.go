package proxy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// announcements collects the messages of the channel `dead`.
type announcements struct {
	mu   sync.Mutex
	seen []string
}

func listen(redis *redistest.Server) *announcements {
	a := &announcements{}
	messages := redis.Subscribe("dead")
	go func() {
		for m := range messages {
			a.mu.Lock()
			a.seen = append(a.seen, m)
			a.mu.Unlock()
		}
	}()
	return a
}

func (a *announcements) has(message string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.seen, message)
}

// about reports whether any message concerns a host.
func (a *announcements) about(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.seen, func(m string) bool { return strings.HasPrefix(m, host+";") })
}

// status makes a backend that answers every request with a status.
func status(n int, fields ...string) func(t testing.TB) string {
	text := "HTTP/1.1 " + strconv.Itoa(n) + " X\r\n"
	for _, f := range fields {
		text += f + "\r\n"
	}
	return func(t testing.TB) string { return backendtest.Canned(t, text+"Content-Length: 0\r\n\r\n").URL() }
}

// markCase is one way for a backend to fail, and whether it is reported dead for it.
type markCase struct {
	name    string
	backend func(t testing.TB) string
	change  func(*setup)
	sees    int // a status that clients see while the backend is in use; 0 where a retry hides it
	marks   bool
}

var markCases = []markCase{
	{"refused", func(t testing.TB) string { return backendtest.Refused(t) }, nil, 0, true},
	{"connect-timeout", func(t testing.TB) string { return backendtest.BlackHole(t) }, func(s *setup) {
		s.ConnectTimeout = 500 * time.Millisecond // The good backend is reached within it on a busy machine too.
	}, 0, true},
	{"response-timeout", func(t testing.TB) string { return backendtest.Silent(t).URL() }, func(s *setup) {
		s.ResponseTimeout = 200 * time.Millisecond
	}, 504, true},
	{"501", status(501), nil, 501, true},
	{"502", status(502), nil, 502, true},
	{"503", status(503), nil, 503, true},
	{"503-retry-after", status(503, "Retry-After: 5"), nil, 503, false},
	{"504", status(504), nil, 504, true},
	{"599", status(599), nil, 599, true},
	{"500-without-checker", status(500), nil, 500, false},
	{"404", status(404), nil, 404, false},
	{"reset", func(t testing.TB) string {
		return backendtest.Scripted(t, backendtest.Head(), backendtest.Reset()).URL()
	}, nil, 0, false},
	{"parse-error", func(t testing.TB) string {
		return backendtest.Scripted(t, backendtest.Head(), backendtest.Send("nonsense\r\n\r\n")).URL()
	}, nil, 502, false},
	{"tls-handshake", func(t testing.TB) string {
		b := backendtest.Scripted(t, backendtest.Send("no TLS\r\n"))
		return "https://" + b.Addr()
	}, nil, 0, false},
}

// TestMark_Triggers sends requests to a frontend of two, one of which fails: each failure marks or does not.
func TestMark_Triggers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	dead := listen(redis)
	for _, tt := range markCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			host := tt.name + ".example"
			bad, good := tt.backend(t), backendtest.Echo(t, "good")
			redis.Do("RPUSH", "frontend:"+host, "id", good.URL(), bad)
			e := newEdge(t, nil, func(s *setup) {
				s.cache.Driver = []string{redis.URL()}
				if tt.change != nil {
					tt.change(s)
				}
			})
			eventually(t, "the route", func() bool { // A busy machine may take longer than a request waits for it.
				_, err := e.routes.Lookup([]byte(host), netip.MustParseAddr("127.0.0.1"))
				return err == nil
			})
			seen := map[int]int{}
			for range 40 { // The chance that one of two backends is never chosen is 2^-40.
				a := e.get(host)
				if seen[a.StatusCode]++; a.StatusCode != 200 && a.StatusCode != tt.sees {
					t.Fatalf("got %d %q, want 200 or %d", a.StatusCode, a.cause(), tt.sees)
				}
			}
			if tt.sees != 0 && seen[tt.sees] == 0 {
				t.Errorf("statuses %v, want some %d", seen, tt.sees)
			}
			if tt.marks {
				wantMark(t, redis, dead, host, bad, seen[tt.sees])
				return
			}
			if n := e.metric("sluice_backend_marks_total"); n != 0 || dead.about(host) {
				t.Errorf("%v marks, want none", n)
			}
			if members := redis.Strings("SMEMBERS", "dead:"+host); len(members) > 0 {
				t.Errorf("dead set %q, want none", members)
			}
		})
	}
}

// wantMark checks what a mark leaves in Redis, and that the backend was out of use at once.
func wantMark(t *testing.T, redis *redistest.Server, dead *announcements, host, url string, failed int) {
	t.Helper()
	if failed > 1 {
		t.Errorf("%d requests failed, want one: the mark counts at once", failed)
	}
	eventually(t, "the mark in redis", func() bool {
		return slices.Equal(redis.Strings("SMEMBERS", "dead:"+host), []string{"1"})
	})
	if ttl := redis.Int("TTL", "dead:"+host); ttl < 20 || ttl > 30 {
		t.Errorf("the dead set lives for %d s, want 30", ttl)
	}
	message := host + ";" + url + ";1;2"
	eventually(t, "message "+message, func() bool { return dead.has(message) })
}

// A wildcard's backend is marked under the host as it was requested.
func TestMark_NamesTheRequestedHost(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	dead := listen(redis)
	bad := status(502)(t)
	redis.Do("RPUSH", "frontend:*.w.example", "id", bad, bad)
	e := newEdge(t, nil, func(s *setup) { s.cache.Driver = []string{redis.URL()} })
	if got := e.get("A.w.example:80").StatusCode; got != 502 {
		t.Fatalf("status %d, want 502", got)
	}
	eventually(t, "the mark", func() bool { return len(redis.Strings("SMEMBERS", "dead:a.w.example")) == 1 })
	id := redis.Strings("SMEMBERS", "dead:a.w.example")[0]
	eventually(t, "the message", func() bool { return dead.has("a.w.example;" + bad + ";" + id + ";2") })
}

// The only backend of a frontend is never marked, whatever it does.
func TestMark_NeverTheOnlyBackend(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{
		"a.example": {"a", backendtest.Refused(t)}, "b.example": {"b", status(502)(t)},
		"c.example": {"c", backendtest.Silent(t).URL()},
	}, func(s *setup) { s.ResponseTimeout = 100 * time.Millisecond })
	for range 3 {
		wantStatus(t, e.get("a.example"), 502, "connect_failed")
		wantStatus(t, e.get("b.example"), 502, "")
		wantStatus(t, e.get("c.example"), 504, "response_timeout")
	}
	if n := e.metric("sluice_backend_marks_total"); n != 0 {
		t.Errorf("%v marks, want none", n)
	}
}

// While an active checker lives, marks are announced only; and a 500 is one, if deadBackendOn500 is on.
func TestMark_WithActiveChecker(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	dead := listen(redis)
	redis.Do("SET", "hchecker_ping", strconv.FormatInt(time.Now().Unix(), 10))
	for _, on500 := range []bool{true, false} {
		host := fmt.Sprintf("on500-%v.example", on500)
		bad := status(500)(t)
		redis.Do("RPUSH", "frontend:"+host, "id", bad, bad)
		e := newEdge(t, nil, func(s *setup) {
			s.cache.Driver = []string{redis.URL()}
			s.DeadBackendOn500 = on500
		})
		eventually(t, "a living checker", e.routes.CheckerAlive)
		if got := e.get(host).StatusCode; got != 500 {
			t.Errorf("status %d, want 500", got)
		}
		if !on500 {
			if n := e.metric("sluice_backend_marks_total"); n != 0 {
				t.Errorf("deadBackendOn500 false: %v marks", n)
			}
			continue
		}
		eventually(t, "an announcement", func() bool { return dead.about(host) })
		if members := redis.Strings("SMEMBERS", "dead:"+host); len(members) > 0 {
			t.Errorf("the dead set holds %q although a checker decides", members)
		}
	}
}

// A backend comes back when the checker takes it out of the set, or the set expires.
func TestMark_Recovery(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	first, second := backendtest.Echo(t, "first"), backendtest.Echo(t, "second")
	redis.Do("RPUSH", "frontend:a.example", "id", first.URL(), second.URL())
	redis.Do("SADD", "dead:a.example", "0")
	e := newEdge(t, nil, func(s *setup) { s.cache.Driver = []string{redis.URL()} })
	use := func() map[string]int {
		seen := map[string]int{}
		for range 40 {
			seen[e.get("a.example").Header.Get("X-Backend")]++
		}
		return seen
	}
	if seen := use(); seen["first"] > 0 {
		t.Errorf("a dead backend served: %v", seen)
	}
	redis.Do("SREM", "dead:a.example", "0")
	eventually(t, "the first backend's return", func() bool { return use()["first"] > 0 })
	redis.Do("SADD", "dead:a.example", "1")
	redis.Do("PEXPIRE", "dead:a.example", "700")
	eventually(t, "the second backend's rest", func() bool { return use()["second"] == 0 })
	eventually(t, "the second backend's return", func() bool { return use()["second"] > 0 })
}

// TestDeath_IsLogged: a mark is told with its reason, once, also when a retry hides the failure from clients.
func TestDeath_IsLogged(t *testing.T) {
	t.Parallel()
	live := backendtest.Canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").URL()
	for _, tt := range []struct {
		name  string
		dead  string
		wants []string
	}{
		{"refused", backendtest.Refused(t), []string{"cause=connect_failed", "connection refused"}},
		{"status", status(503)(t), []string{"cause=status", `error="answered 503"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ops logtest.Buffer
			e := newEdge(t, routeList{"a.example": {"my site", live, tt.dead}}, func(s *setup) { s.opsLog = &ops })
			for range 50 {
				e.get("a.example")
			}
			text := ops.String()
			wants := append([]string{"backend marked dead", "host=a.example", `vhost="my site"`, "backend=" + tt.dead}, tt.wants...)
			for _, want := range wants {
				if !strings.Contains(text, want) {
					t.Errorf("log lacks %q:\n%.500s", want, text)
				}
			}
			if n := strings.Count(text, "backend marked dead"); n != 1 {
				t.Errorf("%d lines for one death", n)
			}
		})
	}
}
