package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"sluice/internal/backendtest"
)

// batch is a connection whose writes can be held back and sent as one.
type batch struct {
	net.Conn
	hold bool
	held []byte
}

func (b *batch) Write(p []byte) (int, error) {
	if b.hold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// flush sends what was held back.
func (b *batch) flush() {
	_, _ = b.Conn.Write(b.held)
	b.hold, b.held = false, nil
}

// forger serves one TLS connection: the first request gets its answer and, in a record of its own but in the same segment,
// one that nobody asked for.
func forger(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	b := &batch{Conn: conn}
	tc := tls.Server(b, config)
	r := bufio.NewReader(tc)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if q.URL.Path == "/first" {
			b.hold = true
			_, _ = io.WriteString(tc, ok)
			_, _ = io.WriteString(tc, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			b.flush()
			continue
		}
		_, _ = io.WriteString(tc, ok)
	}
}

// A record with surplus bytes may have been read together with the one that ends the answer. It is found even if the
// connection is wanted again at once.
func TestTLS_SurplusInARecordOfItsOwn(t *testing.T) {
	t.Parallel()
	cert := backendtest.SelfSigned(t, "app.internal")
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go forger(conn, &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12})
		}
	}()
	e := newEdge(t, one("a.example", "https://"+ln.Addr().String()+"#sni=app.internal"), func(s *setup) { s.BackendCA = cert.Roots })
	for range 50 {
		c := e.dial()
		c.send(request("GET", "/first", "a.example") + request("GET", "/second", "a.example"))
		for range 2 {
			if a := c.answer("GET"); a.body != "ok" {
				t.Fatalf("%d %q: somebody got what nobody had asked for", a.StatusCode, a.body)
			}
		}
		_ = c.Close()
		e.server.ForgetSurplus()
	}
	if n := e.metric("sluice_backend_surplus_bytes_total"); n == 0 {
		t.Error("no surplus counted")
	}
}
