package proxy_test

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/internal/backendtest"
	"sluice/internal/redistest"
	"sluice/proxy"
)

// Ping: Hipache answers Host __ping__ itself, whatever the path and method.
func TestCompat_PingAnswersAnyPathAndMethod(t *testing.T) {
	t.Parallel()
	e := newEdge(t, routeList{})
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PURGE"} {
		for _, target := range []string{"/", "/any/path?query", "http://ignored.example/"} {
			host := "__ping__"
			if strings.HasPrefix(target, "http") {
				target = "http://__ping__/"
			}
			a := e.do(method, target, host)
			if a.StatusCode != 200 || a.body != "ok" || a.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%s %s: %d %q as %q, want 200 ok as text/plain",
					method, target, a.StatusCode, a.body, a.Header.Get("Content-Type"))
			}
		}
	}
	if a := e.do("HEAD", "/", "__ping__"); a.StatusCode != 200 || a.ContentLength != 2 {
		t.Errorf("HEAD: %d of %d bytes, want 200 of 2", a.StatusCode, a.ContentLength)
	}
	c := e.dial()
	c.do("GET", "/", "__ping__")
	if a := c.do("GET", "/", "__ping__"); a.StatusCode != 200 {
		t.Errorf("second ping on a connection: %d", a.StatusCode)
	}
}

// planb pings Redis, only on the path /.
func TestCompat_PlanbPingAsksRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	e := newEdge(t, nil, planb, func(s *setup) { s.cache.Driver = []string{redis.URL()} })
	if a := e.get("__ping__"); a.StatusCode != 200 || a.body != "OK" {
		t.Errorf("ping: %d %q, want 200 OK", a.StatusCode, a.body)
	}
	wantStatus(t, e.do("GET", "/other", "__ping__"), 400, "unknown_host")
	redis.Kill()
	if a := e.get("__ping__"); a.StatusCode != 500 {
		t.Errorf("ping without redis: %d, want 500", a.StatusCode)
	}
}

func planb(s *setup) {
	s.Compat = proxy.CompatPlanb
	s.log.Planb = true
}

// Error pages come from staticDir, first for the code, then for all, and are never cached.
func TestCompat_ErrorPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"error_502.html": "page for 502", "error_default.html": "page for all"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	routes := one("a.example", backendtest.Refused(t))
	own := newEdge(t, routes, func(s *setup) { s.pages.StaticDir = dir })
	embedded := newEdge(t, routes)
	for _, tt := range []struct {
		edge       *edge
		host, want string
		status     int
	}{
		{own, "a.example", "page for 502", 502},
		{own, "b.example", "page for all", 400},
		{embedded, "a.example", "<html", 502},
		{embedded, "b.example", "<html", 400},
	} {
		a := tt.edge.get(tt.host)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %.60q as %q, want %d with %q", tt.host, a.StatusCode, a.body, a.Header.Get("Content-Type"), tt.status, tt.want)
		}
		for name, want := range map[string]string{"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.host, name, got, want)
			}
		}
	}
}

// A request that ends in an error page keeps its connection where the request's end is known.
func TestCompat_ErrorsKeepTheConnection(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"a.example": {"a", b.URL()}, "dead.example": {"d", backendtest.Refused(t)}})
	c := e.dial()
	wantStatus(t, c.do("GET", "/", "unknown.example"), 400, "unknown_host")
	c.send(request("POST", "/", "dead.example", "Content-Length: 5") + "hello")
	wantStatus(t, c.answer("POST"), 502, "connect_failed")
	c.wantAlive("a.example")
}

// A WebSocket handshake is a request like any other: fields, errors, debug headers and log line.
func TestCompat_WebSocketIsARequest(t *testing.T) {
	t.Parallel()
	var head string
	got := make(chan string, 1)
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		q, err := c.ReadHead()
		if err != nil {
			return
		}
		got <- q.Head
		_, _ = c.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
		_, _ = io.Copy(io.Discard, c)
	})
	e := newEdge(t, routeList{"a.example": {"site", b.URL()}, "dead.example": {"d", backendtest.Refused(t)}})
	upgrade := []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "X-Debug: 1"}
	c := e.dial()
	c.send(request("GET", "/chat", "a.example", upgrade...))
	a, err := readAnswerHead(c.r, "GET")
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != 101 || !strings.EqualFold(a.Header.Get("Upgrade"), "websocket") {
		t.Fatalf("got %d with Upgrade %q", a.StatusCode, a.Header.Get("Upgrade"))
	}
	head = <-got
	for _, want := range []string{
		"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "Upgrade: websocket\r\n", "Connection: Upgrade\r\n",
	} {
		if !strings.Contains(head, want) {
			t.Errorf("backend's request lacks %q:\n%s", want, head)
		}
	}
	hello := make([]byte, 5)
	if _, err := io.ReadFull(c.r, hello); err != nil || string(hello) != "hello" {
		t.Errorf("first bytes of the tunnel: %q, %v", hello, err)
	}
	_ = c.Close()
	if line := e.awaitLog(1)[0]; !strings.Contains(line, `"GET /chat HTTP/1.1" 101 5 "" "" "site"`) {
		t.Errorf("log line %q", line)
	}
	wantStatus(t, e.get("unknown.example", upgrade...), 400, "unknown_host")
	wantStatus(t, e.get("dead.example", upgrade...), 502, "connect_failed")
}

// The access log is Hipache's byte for byte; what never got a backend has the identifier "-".
func TestCompat_AccessLogLine(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, backendtest.Text(200, "hello"))
	e := newEdge(t, routeList{"a.example": {"my site", b.URL()}})
	e.do("GET", "/p?q=1", "a.example", "Referer: http://r.example/", `User-Agent: curl/7 "x"`)
	e.awaitLog(1)
	e.get("unknown.example")
	e.awaitLog(2)
	six := newEdge(t, routeList{"a.example": {"my site", b.URL()}}, func(s *setup) { s.wrap = peersFrom("2001:db8::7") })
	six.get("a.example")
	lines := append(e.awaitLog(2), six.awaitLog(1)...)
	for i, want := range []string{
		`^::ffff:127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /p\?q=1 HTTP/1\.1" 200 5 ` +
			`"http://r\.example/" "curl/7 .*x.*" "my site" \d+(\.\d{1,3})? \d+(\.\d{1,3})?$`,
		`^::ffff:127\.0\.0\.1 - - \[[^]]+\] "GET / HTTP/1\.1" 400 \d+ "" "" "-" \d+(\.\d{1,3})? 0$`,
		`^2001:db8::7 - - \[[^]]+\] "GET / HTTP/1\.1" 200 5 "" "" "my site" \d+(\.\d{1,3})? \d+(\.\d{1,3})?$`,
	} {
		if !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("line %d is\n%s\nwant\n%s", i, lines[i], want)
		}
	}
	if strings.Contains(lines[0], ` "x"`) {
		t.Errorf("a client's quotes are not escaped: %s", lines[0])
	}
}

// Nothing that a client sent, or that stands in the store, can break a line of the log or of a head.
func TestCompat_HostileTextIsEscaped(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, routeList{"a.example": {"my\r\nX-Evil: 1\"site", b.URL()}})
	a := e.get("a.example", "X-Debug: 1", "User-Agent: \" 200 1 \"-\" \\\x80")
	if got := a.Header.Get("X-Evil"); a.StatusCode != 200 || got != "" {
		t.Errorf("status %d with X-Evil %q", a.StatusCode, got)
	}
	c := e.dial()
	c.send("GET /bad\x00target HTTP/1.1\r\n\r\n")
	wantStatus(t, c.answer("GET"), 400, "bad_request")
	c = e.dial()
	c.send("\x16\x03\x01 binary")
	wantStatus(t, c.answer("GET"), 400, "bad_request")
	lines := e.awaitLog(3)
	if len(lines) != 3 {
		t.Errorf("%d lines for 3 requests:\n%q", len(lines), lines)
	}
	for _, line := range lines {
		if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f }) || strings.Contains(line, `"" 200 1 "-"`) {
			t.Errorf("line %q", line)
		}
	}
	if !strings.Contains(lines[1], `" 400 `) || !strings.Contains(lines[1], ` "-" `) {
		t.Errorf("line of a bad request: %q", lines[1])
	}
}

// planb's own: statuses, messages, request ids, log fields.
func TestCompat_PlanbAnswers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	b := backendtest.Echo(t, "b")
	redis.Do("RPUSH", "frontend:a.example", "a", b.URL())
	redis.Do("RPUSH", "frontend:dead.example", "dead", b.URL(), b.URL())
	redis.Do("SADD", "dead:dead.example", "0", "1")
	e := newEdge(t, nil, planb, func(s *setup) {
		s.cache.Driver = []string{redis.URL()}
		s.RequestIDHeader = "X-Request-Id"
	})
	wantStatus(t, e.get("dead.example"), 503, "no_backend")
	a := e.get("unknown.example", "X-Debug: 1")
	wantStatus(t, a, 400, "unknown_host")
	if got := a.Header.Get("X-Debug-Error"); got != "no such route" {
		t.Errorf("message %q, want no such route", got)
	}
	e.awaitLog(2)
	id := e.get("a.example", "X-Forwarded-For: 198.51.100.7").echoed(t).Value("X-Request-Id")
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("request id %q, want a UUID", id)
	}
	if line := e.awaitLog(3)[2]; !strings.Contains(line, `"a" "`+id+`" "198.51.100.7" `) {
		t.Errorf("log line %q lacks id and X-Forwarded-For behind the identifier", line)
	}
	if got := e.get("a.example", "x-request-id: mine").echoed(t).Values("X-Request-Id"); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("a client's own request id became %q", got)
	}
	if line := e.awaitLog(4)[3]; !strings.Contains(line, `"a" "mine" `) {
		t.Errorf("log line %q lacks the client's own request id", line)
	}
}

// Several requests on one connection each get the configuration and route of their own time.
func TestCompat_ReloadTakesEffectOnOpenConnections(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	if got := c.do("GET", "/", "a.example").echoed(t).Value("Via"); got != "" {
		t.Errorf("Via %q before the reload", got)
	}
	cfg := e.config
	cfg.Via = "edge1"
	if err := e.server.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	a := c.do("GET", "/", "a.example")
	if got := a.echoed(t).Value("Via"); got != "1.1 edge1" || a.Header.Get("Via") != "1.1 edge1" {
		t.Errorf("Via %q to the backend, %q to the client", got, a.Header.Get("Via"))
	}
	cfg.Balance = "nonsense"
	if err := e.server.Reload(cfg); err == nil {
		t.Error("a bad configuration was accepted")
	}
}
