package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
	"sluice/proxy"
)

// HTTP/3 is announced where it is served, to those who do not speak it, and a backend's word counts.
func TestH3_AltSvc(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	own := backendtest.Canned(t, "HTTP/1.1 200 OK\r\nalt-svc: h2=\":1\"\r\nContent-Length: 2\r\n\r\nok")
	list := routeList{"a.example": {"a", b.URL()}, "b.example": {"b", own.URL()}}
	auto := func(e *edge) string { return fmt.Sprintf(`h3=":%d"; ma=86400`, e.port) }
	nothing := func(*edge) string { return "" }
	for _, tt := range []struct {
		name   string
		change func(*setup)
		host   string
		want   func(*edge) string
	}{
		{"on", func(*setup) {}, "a.example", auto},
		{"error of ours", func(*setup) {}, "edge.example", auto},
		{"backend's own", func(*setup) {}, "b.example", func(*edge) string { return `h2=":1"` }},
		{"off", func(s *setup) { s.bind.HTTP3 = false }, "a.example", nothing},
		{"none", func(s *setup) { s.AltSvc = proxy.AltSvcNone }, "a.example", nothing},
		{"clear", func(s *setup) { s.bind.HTTP3, s.AltSvc = false, "clear" }, "a.example", func(*edge) string { return "clear" }},
	} {
		e, cert := newMultiEdge(t, list, tt.change)
		for _, v := range versions[:2] {
			a := v.visit(t, e, cert).do("GET", "/", tt.host)
			if got := strings.Join(a.Header.Values("Alt-Svc"), "|"); got != tt.want(e) {
				t.Errorf("%s, %s: Alt-Svc %q, want %q", tt.name, v.name, got, tt.want(e))
			}
		}
	}
	e, cert := newMultiEdge(t, list)
	if got := versions[2].visit(t, e, cert).do("GET", "/", "a.example").Header.Get("Alt-Svc"); got != "" {
		t.Errorf("over HTTP/3: %q", got)
	}
	plain := newEdge(t, list, func(s *setup) { s.AltSvc = "clear" })
	if got := plain.get("a.example").Header.Get("Alt-Svc"); got != "" {
		t.Errorf("over plain HTTP: %q", got)
	}
	cfg := e.config
	cfg.AltSvc = `h3=":443"`
	if err := e.server.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if got := versions[0].visit(t, e, cert).do("GET", "/", "a.example").Header.Get("Alt-Svc"); got != cfg.AltSvc {
		t.Errorf("after a reload: %q", got)
	}
	cfg.AltSvc = "a\r\nb: c"
	if err := e.server.Reload(cfg); err == nil {
		t.Error("a line break passes")
	}
}

// Nothing is served from 0-RTT, though sessions are resumed.
func TestH3_NoEarlyData(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	sessions := tls.NewLRUClientSessionCache(4)
	for round := range 2 {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		transport := &quic.Transport{Conn: pc}
		conn, err := transport.DialEarly(t.Context(), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: e.port}, &tls.Config{
			RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h3"}, ClientSessionCache: sessions,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &rawH3{Conn: conn, t: t}
		c.control = c.uni(0x00, 0x04, 0x00)
		if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
			t.Errorf("round %d: %v, %v", round, a.status, err)
		}
		state := conn.ConnectionState()
		if state.Used0RTT || state.TLS.DidResume != (round == 1) {
			t.Errorf("round %d: 0-RTT %t, resumed %t", round, state.Used0RTT, state.TLS.DidResume)
		}
		_ = transport.Close()
		_ = pc.Close()
	}
}

// A client may change its address.
func TestH3_Migration(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH3(cert)
	ask := func() {
		t.Helper()
		if a, err := c.read(c.open(requestH3("GET", "/", "a.example"), true)); err != nil || a.status != "200" {
			t.Errorf("%v, %v", a.status, err)
		}
	}
	ask()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	transport := &quic.Transport{Conn: pc}
	defer transport.Close()
	path, err := c.AddPath(transport)
	c.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.must(path.Probe(ctx))
	c.must(path.Switch())
	ask()
	ask()
}

// A drain tells clients to go, lets what runs end, and then ends, even if clients stay.
func TestH3_Drain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "late")
	}))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	idle, busy := e.dialH3(cert), e.dialH3(cert)
	stream := busy.open(requestH3("GET", "/", "a.example"), true)
	e.awaitInFlight(1)
	e.awaitMetric("sluice_http3_connections", 2)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- e.shutdown(ctx)
	}()
	for name, want := range map[string]uint64{"idle": 0, "busy": 4} {
		c := map[string]*rawH3{"idle": idle, "busy": busy}[name]
		if id, err := c.goneAway(); err != nil || id != want {
			t.Errorf("%s: GOAWAY %d, %v; want %d", name, id, err, want)
		}
	}
	late := busy.open(requestH3("GET", "/", "a.example"), true)
	var reset *quic.StreamError
	if _, err := busy.read(late); !errors.As(err, &reset) || reset.ErrorCode != 0x10b {
		t.Errorf("a request after GOAWAY: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var refused *quic.TransportError
	if _, err := e.dialQUIC(ctx, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h3"}}, nil); !errors.As(err, &refused) ||
		refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("a new connection: %v", err)
	}
	if code, _ := idle.ended(); code != 0x100 {
		t.Errorf("idle: code %#x", code)
	}
	select {
	case err := <-ended:
		t.Fatalf("shutdown did not wait: %v", err)
	default:
	}
	close(release)
	if a, err := busy.read(stream); err != nil || a.status != "200" || a.body != "late" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if line := e.awaitLog(1)[0]; !strings.Contains(line, " 200 ") {
		t.Errorf("log line %q", line)
	}
}

// goneAway waits for a GOAWAY on the server's control stream.
func (c *rawH3) goneAway() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := c.AcceptUniStream(ctx)
	if err != nil {
		return 0, err
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	r := http3Reader{s}
	if kind, err := r.varint(); err != nil || kind != 0 {
		return 0, fmt.Errorf("stream of type %d: %w", kind, err)
	}
	for {
		kind, err := r.varint()
		if err != nil {
			return 0, err
		}
		length, err := r.varint()
		if err != nil {
			return 0, err
		}
		if kind == 0x7 {
			return r.varint()
		}
		if _, err := io.CopyN(io.Discard, s, int64(length)); err != nil {
			return 0, err
		}
	}
}

// What clients leave hanging ends: an idle connection, a head without an end.
func TestH3_Timeouts(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.IdleTimeout = 300 * time.Millisecond })
	if code, _ := e.dialH3(cert).ended(); code != 0x100 {
		t.Errorf("idle: code %#x", code)
	}
	e.awaitMetric("sluice_connections", 0)

	e, cert = newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.HeaderTimeout = 2 * time.Second })
	c := e.dialH3(cert)
	head := requestH3("GET", "/", "a.example")
	parts := map[string]*quic.Stream{}
	for name, part := range map[string][]byte{"half a head": head[:len(head)-3], "half a frame": head[:1], "no end": head} {
		parts[name] = c.open(part, false)
	}
	for name, s := range parts {
		var reset *quic.StreamError
		if _, err := c.read(s); !errors.As(err, &reset) || reset.ErrorCode != 0x10d {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.awaitMetric(`sluice_errors_total{cause="request_timeout"}`, 3)
	// One that uploads slowly is none of these.
	s := c.open(requestH3("POST", "/", "a.example"), false)
	for range 8 {
		time.Sleep(300 * time.Millisecond)
		_, err := s.Write(frameH3(0x0, []byte("x")))
		c.must(err)
	}
	c.must(s.Close())
	if a, err := c.read(s); err != nil || a.status != "200" {
		t.Errorf("slow upload: %v, %v", a.status, err)
	}
}

// What a client may have at once is limited, also if it resets what it began: until that has ended here.
func TestH3_MaxStreams(t *testing.T) {
	t.Parallel()
	w := newWaiting(t, "")
	e, cert := newMultiEdge(t, one("a.example", w.URL()), func(s *setup) { s.MaxStreams = 3 })
	c := e.dialH3(cert)
	for range 3 {
		c.open(requestH3("GET", "/", "a.example"), true)
	}
	e.awaitInFlight(3)
	var full *quic.StreamLimitReachedError
	if _, err := c.OpenStream(); !errors.As(err, &full) {
		t.Errorf("a fourth request: %v", err)
	}
	cfg := e.config
	cfg.MaxStreams = 5
	c.must(e.server.Reload(cfg))
	c = e.dialH3(cert)
	for range 5 {
		c.open(requestH3("GET", "/", "a.example"), true)
	}
	e.awaitInFlight(8)
	if _, err := c.OpenStream(); !errors.As(err, &full) {
		t.Errorf("after a reload, a sixth request: %v", err)
	}
}

// Connections beyond a limit are refused before their handshake, and counted.
func TestH3_ConnectionLimits(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	for _, tt := range []struct {
		name    string
		change  func(*setup)
		limit   string
		retries bool // whoever is refused has shown first that it is there
		atOnce  bool
	}{
		{"all", func(s *setup) { s.MaxConnections = 2 }, "max_connections", false, false},
		{"of an address", func(s *setup) { s.MaxConnectionsPerIP = 2 }, "max_connections_per_ip", true, false},
		{"handshakes", func(s *setup) { s.MaxHandshakesPerSecond = 2 }, "max_handshakes_per_second", true, true},
	} {
		e, cert := newMultiEdge(t, one("a.example", b.URL()), tt.change)
		outcomes := make(chan error, 8)
		for range cap(outcomes) {
			dial := func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := e.dialQUIC(ctx, &tls.Config{RootCAs: cert.Roots, ServerName: "edge.example", NextProtos: []string{"h3"}}, nil)
				outcomes <- err
			}
			if tt.atOnce {
				go dial()
			} else {
				dial()
			}
		}
		refusals := 0
		for range cap(outcomes) {
			err := <-outcomes
			var refused *quic.TransportError
			if errors.As(err, &refused) && refused.ErrorCode == quic.ConnectionRefused {
				refusals++
			} else if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if refusals == 0 || refusals == 8 {
			t.Errorf("%s: %d refused", tt.name, refusals)
		}
		// Each packet of a handshake is refused by itself.
		if got := e.metric(`sluice_limited_total{limit="` + tt.limit + `"}`); got < float64(refusals) {
			t.Errorf("%s: %d refused, %v counted", tt.name, refusals, got)
		}
		if got := e.metric("sluice_http3_retries_total"); (got > 0) != tt.retries {
			t.Errorf("%s: %v retries", tt.name, got)
		}
	}
}

// A client's certificate reaches the backend.
func TestH3_ClientCertificate(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	ca := certtest.New(t)
	pair := ca.Issue(t, "client.example")
	client, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.Key))
	if err != nil {
		t.Fatal(err)
	}
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) {
		s.bind.TLS.ClientAuth, s.bind.TLS.ClientCAs = tls.VerifyClientCertIfGiven, ca.Pool()
	})
	with, without := versions[2].visit(t, e, cert), versions[2].visit(t, e, cert)
	with.http.Transport.(*http3.Transport).TLSClientConfig.Certificates = []tls.Certificate{client}
	if got := with.do("GET", "/", "a.example").echoed(t).Value("Client-Cert"); !strings.HasPrefix(got, ":") {
		t.Errorf("Client-Cert %q", got)
	}
	if got := without.do("GET", "/", "a.example", "Client-Cert: :forged:").echoed(t).Value("Client-Cert"); got != "" {
		t.Errorf("without one: Client-Cert %q", got)
	}
}

// A panic costs its request.
func TestH3_Panic(t *testing.T) {
	t.Parallel()
	e, cert := newMultiEdge(t, nil, func(s *setup) { s.noRoutes = true })
	c := versions[2].visit(t, e, cert)
	wantStatus(t, c.do("GET", "/", "a.example"), 502, "internal")
	e.awaitMetric("sluice_panics_total", 1)
}
