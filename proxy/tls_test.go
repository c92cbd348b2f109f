package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/backendtest"
	"sluice/internal/logtest"
)

// overTLS makes an edge serve https with a certificate of its own.
func overTLS(cert backendtest.Certificate) func(*setup) {
	return func(s *setup) {
		s.bind.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12}
	}
}

// dialTLS opens an encrypted connection to an edge.
func (e *edge) dialTLS(roots *x509.CertPool, version uint16) *client {
	e.t.Helper()
	c := e.dial()
	tc := tls.Client(c.Conn, &tls.Config{RootCAs: roots, ServerName: "edge.example", MinVersion: version, MaxVersion: version})
	if err := tc.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	return newClient(e.t, tc)
}

// Over https everything works as over http, and the application hears the truth about scheme and port.
func TestTLS_Listener(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "edge.example")
	b := backendtest.Echo(t, "b")
	e := newEdge(t, one("a.example", b.URL()), overTLS(cert), func(s *setup) { s.TrustedProxies = nil })
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := e.dialTLS(cert.Roots, version)
		for _, size := range []int{0, 5, 100000} {
			c.send(request("POST", "/", "a.example", fmt.Sprintf("Content-Length: %d", size), "X-Forwarded-Proto: http") + strings.Repeat("x", size))
			q := c.answer("POST").echoed(t)
			for name, want := range map[string]string{
				"X-Forwarded-Proto": "https", "X-Forwarded-Protocol": "https", "X-Forwarded-Port": fmt.Sprint(e.port), "X-Forwarded-For": "127.0.0.1",
			} {
				if got := q.Value(name); got != want {
					t.Errorf("%s: %s is %q, want %q", tls.VersionName(version), name, got, want)
				}
			}
			if q.BodyBytes != int64(size) {
				t.Errorf("backend got %d bytes of %d", q.BodyBytes, size)
			}
		}
		c.send(request("GET", "/", "a.example", "Connection: close"))
		c.answer("GET")
		c.wantEnd()
	}
}

// Limits, errors and leaving clients are the same under TLS.
func TestTLS_LimitsHoldUnderTLS(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "edge.example")
	w := newWaiting(t, "")
	e := newEdge(t, one("a.example", w.URL()), overTLS(cert), func(s *setup) {
		s.HeaderTimeout, s.BodyIdleTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	slow := e.dialTLS(cert.Roots, tls.VersionTLS13)
	slow.send("GET / HTT")
	wantStatus(t, slow.answer("GET"), 408, "request_timeout")
	slow.wantEnd()
	upload := e.dialTLS(cert.Roots, tls.VersionTLS13)
	upload.send(request("POST", "/", "a.example", "Content-Length: 10") + "half")
	wantStatus(t, upload.answer("POST"), 408, "request_timeout")
	bad := e.dialTLS(cert.Roots, tls.VersionTLS13)
	bad.send("GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	wantStatus(t, bad.answer("GET"), 400, "bad_request")
	bad.wantEnd()

	raw := e.dial()
	tc := tls.Client(raw.Conn, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example"})
	if _, err := tc.Write([]byte(request("GET", "/", "a.example"))); err != nil {
		t.Fatal(err)
	}
	<-w.got
	time.Sleep(100 * time.Millisecond)
	raw.reset()
	w.canceled(t, 500*time.Millisecond)
	e.awaitMetric(`sluice_errors_total{cause="client_gone"}`, 1)
}

// What is no TLS on a TLS port, or stalls in the handshake, costs a connection and is counted.
func TestTLS_BadHandshakes(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "edge.example")
	e := newEdge(t, routeList{}, overTLS(cert), func(s *setup) { s.HeaderTimeout = 300 * time.Millisecond })
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: __ping__\r\n\r\n", "\x16\x03\x01\x02", ""} {
		c := e.dial()
		c.send(text)
		_, err := discard(c.r) // Plain HTTP gets an answer.
		if isTimeout(err) {
			t.Errorf("%q: the connection was left open", text)
		}
	}
	e.awaitMetric("sluice_tls_handshake_errors_total", 3)
	e.awaitMetric("sluice_connections", 0)
	if a := e.dialTLS(cert.Roots, tls.VersionTLS13).do("GET", "/", "__ping__"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}

// A panic in what chooses certificates costs the connection, not the process.
func TestTLS_PanicInTheHandshake(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "edge.example")
	e := newEdge(t, routeList{}, func(s *setup) {
		s.bind.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName != "edge.example" {
				panic("no such name")
			}
			return &cert.TLS, nil
		}}
	})
	c := e.dial()
	if err := tls.Client(c.Conn, &tls.Config{ServerName: "other.example", MinVersion: tls.VersionTLS12}).Handshake(); err == nil {
		t.Error("the handshake succeeded")
	}
	if a := e.dialTLS(cert.Roots, tls.VersionTLS13).do("GET", "/", "__ping__"); a.StatusCode != 200 {
		t.Errorf("ping after the panic: status %d", a.StatusCode)
	}
	if n := e.metric("sluice_panics_total"); n != 1 {
		t.Errorf("%v panics counted, want 1", n)
	}
}

// An https backend is really spoken to in TLS, and checked.
func TestTLS_Backend(t *testing.T) {
	t.Parallel()
	named, other := backendtest.SelfSigned(t, "app.internal"), backendtest.SelfSigned(t, "other.internal")
	var names logtest.Buffer
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(&names, "%s,", r.TLS.ServerName)
		backendtest.Text(200, r.TLS.NegotiatedProtocol).ServeHTTP(w, r)
	})
	b := backendtest.HTTPS(t, named, handler)
	for _, tt := range []struct {
		name, element string
		roots         *x509.CertPool
		status        int
		cause         string
		sni           string
	}{
		{"known CA, by address", b.URL(), named.Roots, 200, "", ""},
		{"known CA, name in #sni", b.URL() + "#sni=app.internal", named.Roots, 200, "", "app.internal"},
		{"known CA, wrong name", b.URL() + "#sni=wrong.internal", named.Roots, 502, "connect_failed", ""},
		{"unknown CA", b.URL(), other.Roots, 502, "connect_failed", ""},
		{"system's CAs", b.URL(), nil, 502, "connect_failed", ""},
		{"no check", b.URL() + "#tlsVerify=off", other.Roots, 200, "", ""},
		{"no check, with name", b.URL() + "#tlsVerify=off&sni=any.internal", other.Roots, 200, "", "any.internal"},
		{"plain backend", "https://" + backendtest.Echo(t, "plain").Addr(), named.Roots, 502, "connect_failed", ""},
	} {
		e := newEdge(t, one("a.example", tt.element, tt.element), func(s *setup) { s.BackendCA = tt.roots })
		c := e.dial()
		for range 2 {
			a := c.do("GET", "/", "a.example")
			if a.StatusCode != tt.status || a.cause() != tt.cause {
				t.Errorf("%s: %d %q, want %d %q", tt.name, a.StatusCode, a.cause(), tt.status, tt.cause)
			}
			if a.StatusCode == 200 && a.body != "http/1.1" && a.body != "" {
				t.Errorf("%s: protocol %q", tt.name, a.body)
			}
		}
		if tt.sni != "" && !strings.Contains(names.String(), tt.sni+",") {
			t.Errorf("%s: server names %q", tt.name, names.String())
		}
		if n := e.metric("sluice_backend_marks_total"); n != 0 {
			t.Errorf("%s: %v marks, want none: the backend is there", tt.name, n)
		}
	}
}

// Connections to https backends are reused, streamed and looked at like others.
func TestTLS_BackendReuseAndStreaming(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "app.internal")
	b := backendtest.HTTPS(t, cert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := discard(r.Body)
		backendtest.Text(200, fmt.Sprint(n)).ServeHTTP(w, r)
	}))
	e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.BackendCA = cert.Roots })
	c := e.dial()
	for i, size := range []int{0, 100000, 5, 0, 3 << 20} {
		c.send(request("POST", "/", "a.example", fmt.Sprintf("Content-Length: %d", size)) + strings.Repeat("x", size))
		if a := c.answer("POST"); a.body != fmt.Sprint(size) {
			t.Errorf("request %d: %d %q, want %d", i, a.StatusCode, a.body, size)
		}
		time.Sleep(5 * time.Millisecond) // Long enough idle to be looked at.
	}
	if n := b.Connects(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
	b.CloseConns()
	time.Sleep(5 * time.Millisecond)
	c.send(request("POST", "/", "a.example", "Content-Length: 5") + "hello")
	if a := c.answer("POST"); a.body != "5" {
		t.Errorf("after the backend closed: %d %q", a.StatusCode, a.body)
	}
}

// Bytes that an https backend leaves behind its answer are found under TLS too; a polite farewell is no surplus.
func TestTLS_UncleanBackendConnections(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "app.internal")
	for _, tt := range []struct {
		name, late string
		surplus    float64
	}{
		{"late bytes", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", 1},
		{"close_notify", "", 0},
	} {
		done := make(chan struct{}, 1)
		b := backendtest.HTTPS(t, cert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString(ok)
			_ = rw.Flush()
			if r.URL.Path == "/first" {
				time.Sleep(20 * time.Millisecond)
				_, _ = rw.WriteString(tt.late)
				_ = rw.Flush()
				if tt.late == "" {
					_ = conn.(*tls.Conn).CloseWrite()
				}
				done <- struct{}{}
			}
			_, _ = discard(conn)
		}))
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.BackendCA = cert.Roots })
		c := e.dial()
		c.do("GET", "/first", "a.example")
		<-done
		time.Sleep(20 * time.Millisecond) // The bytes are on their way, and have no other sign.
		c.send(request("POST", "/second", "a.example", "Content-Length: 0"))
		if a := c.answer("POST"); a.StatusCode != 200 || a.body != "ok" {
			t.Errorf("%s: %d %q %.20q, want an answer of its own", tt.name, a.StatusCode, a.cause(), a.body)
		}
		if n := e.metric("sluice_backend_surplus_bytes_total"); n != tt.surplus {
			t.Errorf("%s: %v surpluses counted, want %v", tt.name, n, tt.surplus)
		}
	}
}

// WebSockets work with TLS on both sides, a FIN included.
func TestTLS_Tunnel(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "edge.example")
	b := backendtest.HTTPS(t, cert, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString(switching)
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("got " + line)
		_ = rw.Flush()
		_, _ = discard(rw)
	}))
	e := newEdge(t, one("a.example", b.URL()), overTLS(cert), func(s *setup) { s.BackendCA = cert.Roots })
	c := e.dialTLS(cert.Roots, tls.VersionTLS13)
	c.send(request("GET", "/", "a.example", upgradeFields...) + "hel")
	if a, err := readAnswerHead(c.r, "GET"); err != nil || a.StatusCode != 101 {
		t.Fatalf("got %v, %v", a, err)
	}
	c.send("lo\n")
	if line, err := c.r.ReadString('\n'); line != "got hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
	c.closeWrite()
	c.wantEnd()
	e.awaitMetric("sluice_tunnels", 0)
}
