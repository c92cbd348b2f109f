package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/proxy"
)

// version is one version of HTTP as clients speak it.
type version struct {
	name  string // as TLS negotiates it
	proto string // as the access log has it
}

// versions are those that one table of tests is run over.
var versions = []version{{"http/1.1", "HTTP/1.1"}, {"h2", "HTTP/2.0"}, {"h3", "HTTP/3.0"}}

// overVersions runs a test once for each version.
func overVersions(t *testing.T, f func(t *testing.T, v version)) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			f(t, v)
		})
	}
}

// hostsOfEdge are the names in the certificate of the edges below.
var hostsOfEdge = []string{"edge.example", "a.example", "b.example", "*.pool.example"}

// newMultiEdge runs an edge that speaks every version over TLS.
func newMultiEdge(t *testing.T, routes routeList, change ...func(*setup)) (*edge, backendtest.Certificate) {
	t.Helper()
	cert := backendtest.SelfSigned(t, hostsOfEdge...)
	change = append([]func(*setup){func(s *setup) {
		s.bind.TLS = &tls.Config{
			Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		}
		s.bind.HTTP2, s.bind.HTTP3 = true, true
	}}, change...)
	return newEdge(t, routes, change...), cert
}

// visitor is a client of net/http that speaks one version to an edge.
type visitor struct {
	t    testing.TB
	e    *edge
	http *http.Client
}

// visit makes a visitor. Every one has connections of its own.
func (v version) visit(t testing.TB, e *edge, cert backendtest.Certificate) *visitor {
	if v.name == "h3" {
		return visitH3(t, e, cert)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(v.name == "http/1.1")
	protocols.SetHTTP2(v.name == "h2")
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example"},
		Protocols:          protocols,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, e.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{t: t, e: e, http: &http.Client{Transport: transport, Timeout: 6 * patience}}
}

// request makes a request; fields are `Name: value`.
func (v *visitor) request(method, target, host string, body io.Reader, fields ...string) *http.Request {
	v.t.Helper()
	q, err := http.NewRequest(method, "https://"+host+target, body)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		q.Header.Add(name, value)
	}
	return q
}

// send sends a request and reads the whole answer.
func (v *visitor) send(q *http.Request) *answer {
	v.t.Helper()
	resp, err := v.http.Do(q)
	if err != nil {
		v.t.Fatalf("%s %s: %v", q.Method, q.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatalf("%s %s: read body: %v", q.Method, q.URL, err)
	}
	return &answer{resp, string(body)}
}

// do sends a request without a body.
func (v *visitor) do(method, target, host string, fields ...string) *answer {
	v.t.Helper()
	return v.send(v.request(method, target, host, nil, fields...))
}

// What a client gets, and what a backend, the log and the metrics see, does not depend on the version.
func TestVersions_Requests(t *testing.T) {
	b := backendtest.Echo(t, "b")
	dead := backendtest.Refused(t)
	list := routeList{
		"a.example": {"app", b.URL()}, "b.example": {"down", dead, dead}, "*.pool.example": {"pool", b.URL()},
	}
	tests := []struct {
		name         string
		method, host string
		target       string
		body         string
		fields       []string
		status       int
		cause        string
		vhost        string
		check        func(t *testing.T, a *answer)
	}{
		{name: "routed", method: "GET", host: "a.example", target: "/p?q=1", status: 200, vhost: "app"},
		{name: "wildcard", method: "GET", host: "x.pool.example", target: "/", status: 200, vhost: "pool"},
		{name: "target untouched", method: "GET", host: "a.example", target: "/a/../b//c%2F?x=%20&&", status: 200, vhost: "app"},
		{name: "options", method: "OPTIONS", host: "a.example", target: "/", status: 200, vhost: "app"},
		{name: "own method", method: "PURGE", host: "a.example", target: "/", status: 200, vhost: "app"},
		{name: "body", method: "POST", host: "a.example", target: "/", body: strings.Repeat("x", 1000), status: 200, vhost: "app"},
		{name: "long body", method: "PUT", host: "a.example", target: "/", body: strings.Repeat("y", 300000), status: 200, vhost: "app"},
		{name: "unknown host", method: "GET", host: "nobody.pool.example.", target: "/", status: 200, vhost: "pool"},
		{name: "dead backends", method: "GET", host: "b.example", target: "/", status: 502, cause: "connect_failed", vhost: "down"},
		{
			name: "trace", method: "TRACE", host: "a.example", target: "/", status: 405, cause: "method_refused", vhost: "-",
			check: func(t *testing.T, a *answer) {
				if a.Header.Get("Allow") == "" {
					t.Error("no Allow")
				}
			},
		},
		{name: "max forwards", method: "OPTIONS", host: "a.example", target: "/", fields: []string{"Max-Forwards: 0"}, status: 200, vhost: "-"},
		{
			name: "loop", method: "GET", host: "a.example", target: "/", fields: []string{"X-Forwarded-For: " + strings.Repeat("1.2.3.4,", 30)},
			status: 508, cause: "loop", vhost: "-",
		},
		{name: "too many fields", method: "GET", host: "a.example", target: "/", fields: many(150), status: 431, cause: "head_too_large", vhost: "-"},
		{
			name: "large field", method: "GET", host: "a.example", target: "/", fields: []string{"X-Large: " + strings.Repeat("z", 20000)},
			status: 431, cause: "head_too_large", vhost: "-",
		},
		{name: "large body", method: "POST", host: "a.example", target: "/", body: strings.Repeat("x", 500000), status: 413, cause: "body_too_large", vhost: "-"},
	}
	overVersions(t, func(t *testing.T, v version) {
		e, cert := newMultiEdge(t, list, func(s *setup) { s.MaxBodyBytes, s.RetryOnError = 400000, 0 })
		c := v.visit(t, e, cert)
		for i, tt := range tests {
			q := c.request(tt.method, tt.target, tt.host, nil, tt.fields...)
			if tt.body != "" {
				q = c.request(tt.method, tt.target, tt.host, strings.NewReader(tt.body), tt.fields...)
			}
			a := c.send(q)
			cause := tt.cause
			if tt.name == "dead backends" {
				cause = a.cause()
			}
			if a.StatusCode != tt.status || a.cause() != cause || a.Proto != v.proto {
				t.Errorf("%s: got %s %d %q, want %s %d %q", tt.name, a.Proto, a.StatusCode, a.cause(), v.proto, tt.status, cause)
			}
			if tt.check != nil {
				tt.check(t, a)
			}
			if tt.status == 200 && tt.vhost != "-" {
				got := a.echoed(t)
				if got.Target != tt.target || got.Method != tt.method || got.BodyBytes != int64(len(tt.body)) || got.Proto != "HTTP/1.1" {
					t.Errorf("%s: backend got %s %s %s with %d bytes", tt.name, got.Method, got.Target, got.Proto, got.BodyBytes)
				}
				if got.Value("Host") != tt.host {
					t.Errorf("%s: backend got Host %q, want %q", tt.name, got.Value("Host"), tt.host)
				}
				if tt.body != "" && got.Value("Content-Length") != fmt.Sprint(len(tt.body)) {
					t.Errorf("%s: backend got Content-Length %q", tt.name, got.Value("Content-Length"))
				}
			}
			line := e.awaitLog(i + 1)[i]
			if !strings.Contains(line, v.proto) || !strings.Contains(line, fmt.Sprintf(" %d ", tt.status)) {
				t.Errorf("%s: log line %q", tt.name, line)
			}
		}
		e.awaitMetric(`sluice_errors_total{cause="loop"}`, 1)
		e.awaitMetric(`sluice_errors_total{cause="head_too_large"}`, 2)
		e.awaitMetric(`sluice_requests_total{status="4xx"}`, 4)
		if v.name != "http/1.1" {
			e.awaitMetric(fmt.Sprintf("sluice_http%c_requests_total", v.name[1]), float64(len(tests)))
			e.awaitMetric("sluice_streams", 0)
		}
	})
}

// many is n fields.
func many(n int) (fields []string) {
	for i := range n {
		fields = append(fields, fmt.Sprintf("X-Field-%d: v", i))
	}
	return fields
}

// The backend learns of its client the same, whichever version.
func TestVersions_Fields(t *testing.T) {
	b := backendtest.Echo(t, "b")
	overVersions(t, func(t *testing.T, v version) {
		for _, trusted := range []bool{true, false} {
			e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) {
				s.RequestIDHeader, s.Via = "X-Request-Id", "edge"
				if !trusted {
					s.TrustedProxies = nil
				}
			})
			c := v.visit(t, e, cert)
			got := c.do("GET", "/", "a.example", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: gopher", "X_Forwarded_For: 192.0.2.2",
				"Forwarded: for=192.0.2.3", "X-Real-Ip: 192.0.2.4", "Cookie: a=1; b=2", "X-Twice: 1", "X-Twice: 2", "User-Agent: visitor",
				"Proxy-Authorization: x", "Te: trailers").echoed(t)
			want := map[string]string{
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Port": fmt.Sprint(e.port), "X-Real-Ip": "127.0.0.1",
				"Forwarded": "", "X_Forwarded_For": "", "Cookie": "a=1; b=2", "X-Twice": "1,2", "User-Agent": "visitor", "Proxy-Authorization": "",
				"Te": "trailers", "Via": "1.1 edge",
			}
			if v.name != "http/1.1" {
				want["Via"] = v.name[1:] + ".0 edge"
			}
			if trusted {
				want["X-Forwarded-For"], want["X-Forwarded-Proto"] = "192.0.2.1, 127.0.0.1", "gopher"
				want["Forwarded"], want["X-Real-Ip"] = "for=192.0.2.3", "192.0.2.4"
			}
			for name, value := range want {
				if got := strings.Join(got.Values(name), ","); got != value {
					t.Errorf("trusted %v: backend got %s %q, want %q", trusted, name, got, value)
				}
			}
			if len(got.Value("X-Request-Id")) != 36 {
				t.Errorf("backend got X-Request-Id %q", got.Value("X-Request-Id"))
			}
		}
	})
}

// Answers pass as they are: statuses, doubled fields, lengths, no body where there is none, nothing invented.
func TestVersions_Answers(t *testing.T) {
	tests := []struct {
		name, method, raw string
		status            int
		length            int64
		body              string
		trailer           string
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-A: \r\n\r\nhello", 200, 5, "hello", ""},
		{"empty", "GET", "HTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n", 404, 0, "", ""},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, -1, "hello", ""},
		{"until close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", 200, -1, "hello", ""},
		{"trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: t\r\n\r\n", 200, -1, "hello", "t"},
		{"unannounced trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: t\r\n\r\n", 200, -1, "hello", "t"},
		{"head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", 200, 12345, "", ""},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, 0, "", ""},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304, 0, "", ""},
		{"connection fields", "GET", "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", ""},
		{"large", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), 200, 300000, strings.Repeat("x", 300000), ""},
	}
	overVersions(t, func(t *testing.T, v version) {
		for _, tt := range tests {
			b := backendtest.Raw(t, func(c *backendtest.Conn) {
				if _, err := c.ReadRequest(); err == nil {
					_, _ = c.WriteString(tt.raw)
				}
			})
			e, cert := newMultiEdge(t, one("a.example", b.URL()))
			a := v.visit(t, e, cert).do(tt.method, "/", "a.example")
			if a.StatusCode != tt.status || a.body != tt.body || a.ContentLength != tt.length && tt.status < 204 {
				t.Errorf("%s: got %d, length %d, %d bytes", tt.name, a.StatusCode, a.ContentLength, len(a.body))
			}
			for _, name := range []string{"Date", "Content-Type", "Server", "X-Hop", "Keep-Alive", "Proxy-Connection"} {
				if got, set := a.Header[name]; set {
					t.Errorf("%s: invented %s: %q", tt.name, name, got)
				}
			}
			if tt.name == "length" && (len(a.Header["Set-Cookie"]) != 2 || len(a.Header["X-A"]) != 1) {
				t.Errorf("fields: %v", a.Header)
			}
			if got := a.Trailer.Get("X-T"); got != tt.trailer {
				t.Errorf("%s: trailer %q, want %q", tt.name, got, tt.trailer)
			}
		}
	})
}

// A truncated answer never looks complete.
func TestVersions_TruncatedAnswers(t *testing.T) {
	overVersions(t, func(t *testing.T, v version) {
		for name, raw := range map[string]string{
			"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000),
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		} {
			b := backendtest.Raw(t, func(c *backendtest.Conn) {
				if _, err := c.ReadRequest(); err == nil {
					_, _ = c.WriteString(raw)
				}
			})
			e, cert := newMultiEdge(t, one("a.example", b.URL()))
			c := v.visit(t, e, cert)
			resp, err := c.http.Do(c.request("GET", "/", "a.example", nil))
			if err != nil {
				continue // An error in the place of a head is as clear.
			}
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: %d bytes look complete", name, len(body))
			}
			e.awaitMetric(`sluice_errors_total{cause="backend_reset"}`, 1)
		}
	})
}

// A client that gives up takes its backend's request along within 100 ms, and is logged with 499.
func TestVersions_ClientGone(t *testing.T) {
	overVersions(t, func(t *testing.T, v version) {
		w := newWaiting(t, "")
		e, cert := newMultiEdge(t, one("a.example", w.URL()), func(s *setup) { s.HalfCloseGrace = 50 * time.Millisecond })
		c := v.visit(t, e, cert)
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error, 1)
		q := c.request("GET", "/", "a.example", nil).WithContext(ctx)
		go func() {
			_, err := c.http.Do(q)
			failed <- err
		}()
		<-w.got
		cancel()
		w.canceled(t, 500*time.Millisecond)
		if err := <-failed; err == nil {
			t.Error("no error after cancel")
		}
		e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 1)
		if line := e.awaitLog(1)[0]; !strings.Contains(line, " 499 ") {
			t.Errorf("log line %q", line)
		}
	})
}

// Events reach the client one by one.
func TestVersions_StreamsFlush(t *testing.T) {
	overVersions(t, func(t *testing.T, v version) {
		next := make(chan struct{})
		b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range 5 {
				fmt.Fprintf(w, "event %d\n", i)
				w.(http.Flusher).Flush()
				select {
				case <-next:
				case <-r.Context().Done():
				}
			}
		}))
		e, cert := newMultiEdge(t, one("a.example", b.URL()))
		c := v.visit(t, e, cert)
		resp, err := c.http.Do(c.request("GET", "/", "a.example", nil))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			want := fmt.Sprintf("event %d\n", i)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("event %d: %q, %v", i, got, err)
			}
			next <- struct{}{}
		}
	})
}

// Request bodies stream with trailers, in both framings.
func TestVersions_Uploads(t *testing.T) {
	b := backendtest.Echo(t, "b")
	overVersions(t, func(t *testing.T, v version) {
		e, cert := newMultiEdge(t, one("a.example", b.URL()))
		c := v.visit(t, e, cert)
		content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		q := c.request("POST", "/", "a.example", io.MultiReader(bytes.NewReader(content)))
		q.Trailer = http.Header{"X-Sum": {"42"}}
		got := c.send(q).echoed(t)
		if got.BodyBytes != int64(len(content)) || got.Value("Transfer-Encoding") != "chunked" || got.Value("Content-Length") != "" {
			t.Errorf("backend got %d bytes of %d, %v", got.BodyBytes, len(content), got.Fields)
		}
		if len(got.Trailers) != 1 || got.Trailers[0].Value != "42" {
			t.Errorf("backend got trailers %v", got.Trailers)
		}
		e.awaitMetric("sluice_request_body_bytes_total", float64(len(content)))
	})
}

// Interim answers pass.
func TestVersions_EarlyHints(t *testing.T) {
	overVersions(t, func(t *testing.T, v version) {
		b := backendtest.Canned(t, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+ok)
		e, cert := newMultiEdge(t, one("a.example", b.URL()))
		c := v.visit(t, e, cert)
		var hints []string
		q := c.request("GET", "/", "a.example", nil)
		q = q.WithContext(withInterim(q.Context(), func(code int, h http.Header) { hints = append(hints, fmt.Sprint(code, h.Get("Link"))) }))
		if a := c.send(q); a.body != "ok" || a.Header.Get("Link") != "" {
			t.Errorf("got %q with %v", a.body, a.Header)
		}
		if len(hints) != 1 || hints[0] != "103 </a.css>" && hints[0] != "103</a.css>" {
			t.Errorf("interim answers: %v", hints)
		}
	})
}

// Debug fields, the ping and planb's answers are the same.
func TestVersions_OwnAnswers(t *testing.T) {
	b := backendtest.Echo(t, "b")
	overVersions(t, func(t *testing.T, v version) {
		e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.DebugHeaders = proxy.DebugAll })
		c := v.visit(t, e, cert)
		a := c.do("GET", "/", "a.example", "X-Debug: 1")
		if a.Header.Get("X-Debug-Backend-Url") != b.URL() || a.Header.Get("X-Debug-Vhost") != "a.example" {
			t.Errorf("debug fields: %v", a.Header)
		}
		q := c.request("GET", "/", "a.example", nil)
		q.Host = "__ping__"
		if a := c.send(q); a.StatusCode != 200 || a.body != "ok" {
			t.Errorf("ping: %d %q", a.StatusCode, a.body)
		}
		q = c.request("GET", "/", "a.example", nil, "X-Debug: 1")
		q.Host = "edge.example"
		a = c.send(q)
		wantStatus(t, a, 400, "unknown_host")
		if a.Header.Get("X-Debug-Error") != "frontend not found" || a.body == "" || a.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("error answer: %v %q", a.Header, a.body)
		}
		e.server.BeginDrain()
		q = c.request("GET", "/", "a.example", nil)
		q.Host = "__ping__"
		wantStatus(t, c.send(q), 503, "draining")
	})
}

// A body that stalls is a timeout; one that is cut never reaches its end.
func TestVersions_StalledUpload(t *testing.T) {
	b := backendtest.Echo(t, "b")
	overVersions(t, func(t *testing.T, v version) {
		e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.BodyIdleTimeout = 300 * time.Millisecond })
		for _, length := range []int64{10, 100000, -1} {
			c := v.visit(t, e, cert)
			r, w := io.Pipe()
			defer w.Close()
			go func() { _, _ = w.Write([]byte("half")) }()
			q := c.request("POST", "/", "a.example", r)
			q.ContentLength = length
			wantStatus(t, c.send(q), 408, "request_timeout")
		}
	})
}

// More trailers than may be are refused, not lost.
func TestVersions_TooManyTrailers(t *testing.T) {
	b := backendtest.Echo(t, "b")
	overVersions(t, func(t *testing.T, v version) {
		e, cert := newMultiEdge(t, one("a.example", b.URL()))
		for n, want := range map[int]int{32: 200, 33: 400} {
			c := v.visit(t, e, cert)
			q := c.request("POST", "/", "a.example", io.MultiReader(strings.NewReader("hello"))) // Of unknown length.
			q.Trailer = make(http.Header)
			for i := range n {
				q.Trailer.Set(fmt.Sprint("X-", i), "42")
			}
			if a := c.send(q); a.StatusCode != want {
				t.Errorf("%d trailers: status %d, want %d", n, a.StatusCode, want)
			}
		}
	})
}

// Once its answer has begun a request may pause, also where the wait for more of it began before that.
func TestVersions_SilenceAfterAnswer(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		both := http.NewResponseController(w)
		_ = both.EnableFullDuplex()
		_ = both.Flush()
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, " ", err)
	}))
	const idle = 300 * time.Millisecond
	for _, tt := range []struct {
		v      version
		tunnel time.Duration
	}{{versions[1], time.Minute}, {versions[1], 0}, {versions[2], time.Minute}} {
		t.Run(fmt.Sprint(tt.v.name, " ", tt.tunnel), func(t *testing.T) {
			t.Parallel()
			e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) {
				s.BodyIdleTimeout, s.TunnelIdleTimeout = idle, tt.tunnel
			})
			c := tt.v.visit(t, e, cert)
			r, w := io.Pipe()
			resp, err := c.http.Do(c.request("POST", "/", "a.example", r))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(3 * idle)
			go func() {
				_, _ = io.WriteString(w, "late")
				_ = w.Close()
			}()
			if got, err := io.ReadAll(resp.Body); string(got) != "4 <nil>" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
