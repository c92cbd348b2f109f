package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
)

// quicPort finds a port that nobody uses, over TCP or UDP.
func quicPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := freePort(t)
		if conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
			_ = conn.Close() // nothing has come
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// quicFlags are the flags of an edge that serves HTTP/3 on a port with a certificate.
func quicFlags(t *testing.T, port int, pair certtest.Pair) (flags []string, cert, key string) {
	t.Helper()
	folder := openFolder(t)
	cert = writeFile(t, filepath.Join(folder, "cert.pem"), pair.Certificate)
	key = writeFile(t, filepath.Join(folder, "key.pem"), pair.Key)
	return []string{
		"--server-access-log=none", fmt.Sprintf("--https-bind=127.0.0.1:%d", port), "--https-cert=" + cert, "--https-key=" + key,
		"--https-http-3",
	}, cert, key
}

// quicClient is a client of HTTP/3 with one connection at a time.
type quicClient struct {
	t         *testing.T
	transport *http3.Transport
	base      string
}

func newQUICClient(t *testing.T, roots *x509.CertPool, port int, name string) *quicClient {
	t.Helper()
	c := &quicClient{t: t, base: fmt.Sprintf("https://127.0.0.1:%d", port), transport: &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}, DisableCompression: true,
		QUICConfig: &quic.Config{HandshakeIdleTimeout: patience},
	}}
	t.Cleanup(func() { _ = c.transport.Close() })
	return c
}

func (c *quicClient) do(method, target, host string, body io.Reader) (*http.Response, string, error) {
	q, err := http.NewRequestWithContext(c.t.Context(), method, c.base+target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	q.Host = host
	ctx, cancel := context.WithTimeout(q.Context(), 2*patience)
	defer cancel()
	resp, err := c.transport.RoundTrip(q.WithContext(ctx))
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// HTTP/3 is found by way of the announcement, serves, follows a new certificate, and ends in peace.
func TestProcess_HTTP3(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	backend := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		_, _ = io.Copy(w, r.Body)
		_, _ = io.WriteString(w, "hello by "+r.Header.Get("X-Forwarded-Proto"))
	}))
	ca := certtest.New(t)
	port := quicPort(t)
	first := ca.Issue(t, "www.example.com")
	flags, cert, key := quicFlags(t, port, first)
	p := launch(t, append(flags, routesFile(t, map[string]string{"www.example.com": backend.URL()}))...)
	p.awaitLog("listening", "protocol=http/3", fmt.Sprintf("127.0.0.1:%d", port))

	tcp := &http.Client{Timeout: patience, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "www.example.com"},
	}}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/", port), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	q.Host = "www.example.com"
	resp, err := tcp.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got, want := resp.Header.Get("Alt-Svc"), fmt.Sprintf(`h3=":%d"; ma=86400`, port); got != want || resp.ProtoMajor != 2 {
		t.Errorf("over %s: Alt-Svc %q, want %q", resp.Proto, got, want)
	}

	c := newQUICClient(t, ca.Pool(), port, "www.example.com")
	upload := bytes.Repeat([]byte("0123456789"), 100_000)
	resp, text, err := c.do(http.MethodPost, "/", "www.example.com", bytes.NewReader(upload))
	if err != nil || resp.StatusCode != http.StatusOK || text != string(upload)+"hello by https" || resp.ProtoMajor != 3 {
		t.Fatalf("POST over HTTP/3: %v, %v, %d bytes", err, resp, len(text))
	}
	if resp.Header.Get("Alt-Svc") != "" {
		t.Error("HTTP/3 is announced over HTTP/3")
	}

	second := ca.Issue(t, "www.example.com")
	writeFile(t, cert, second.Certificate)
	writeFile(t, key, second.Key)
	p.signal(syscall.SIGHUP)
	p.awaitLog("certificate reloaded")
	renewed := newQUICClient(t, ca.Pool(), port, "www.example.com")
	if resp, _, err = renewed.do(http.MethodGet, "/", "www.example.com", nil); err != nil {
		t.Fatal(err)
	}
	if got := resp.TLS.PeerCertificates[0].SerialNumber.String(); got != second.Serial {
		t.Errorf("after a reload: certificate %s, want %s", got, second.Serial)
	}

	slow := make(chan error, 1)
	go func() {
		resp, text, err := c.do(http.MethodGet, "/slow", "www.example.com", nil)
		if err == nil && (resp.StatusCode != http.StatusOK || text != "hello by https") {
			err = fmt.Errorf("got %d %q", resp.StatusCode, text)
		}
		slow <- err
	}()
	p.await("the request", func() bool { return strings.Contains(p.metrics(), "sluice_streams 1\n") })
	p.signal(syscall.SIGTERM)
	p.awaitLog("draining")
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	if status := p.exitStatus(); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
}

// A handover loses no request: those of the old process end there, new ones are the new one's.
func TestHandover_HTTP3(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	backend := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			release <- struct{}{}
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
	}))
	ca := certtest.New(t)
	port := quicPort(t)
	flags, _, _ := quicFlags(t, port, ca.Issue(t, "www.example.com"))
	d := newDeployment(t, append(flags, routesFile(t, map[string]string{"www.example.com": backend.URL()}))...)
	d.awaitLog("listening", "protocol=http/3")
	get := func(c *quicClient, target string) error {
		resp, text, err := c.do(http.MethodGet, target, "www.example.com", nil)
		if err == nil && (resp.StatusCode != http.StatusOK || len(text) != 100_000) {
			err = fmt.Errorf("got %d and %d bytes", resp.StatusCode, len(text))
		}
		return err
	}
	for round := range 2 { // The sockets change places.
		before := newQUICClient(t, ca.Pool(), port, "www.example.com")
		slow := make(chan error, 1)
		go func() { slow <- get(before, "/slow") }()
		d.await("the request", func() bool { return strings.Contains(d.metrics(), "sluice_streams 1\n") })
		old := d.handOver()
		after := newQUICClient(t, ca.Pool(), port, "www.example.com")
		for i := range 20 {
			if err := get(after, "/"); err != nil {
				t.Fatalf("round %d, request %d to the new process: %v", round, i, err)
			}
		}
		if page := d.metrics(); !strings.Contains(page, "sluice_http3_requests_total 20\n") {
			t.Errorf("round %d: the new process has not served the 20 requests", round)
		}
		<-release
		if err := <-slow; err != nil {
			t.Errorf("round %d: the request of the old process: %v", round, err)
		}
		if status := d.exitStatusOf(old); status != exitOK {
			t.Errorf("exit status %d, want 0", status)
		}
		d.awaitLog("the old process has ended", fmt.Sprintf("old_pid=%d", old))
		if err := get(newQUICClient(t, ca.Pool(), port, "www.example.com"), "/"); err != nil {
			t.Errorf("round %d, after the end of the old process: %v", round, err)
		}
	}
}

// Each address has its own two sockets: one that was added at a handover is at its first when the others are at their
// second.
func TestHandover_HTTP3OnAnotherAddress(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	backend := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			release <- struct{}{}
		}
		_, _ = io.WriteString(w, "hello")
	}))
	ca := certtest.New(t)
	port := quicPort(t)
	_, cert, key := quicFlags(t, port, ca.Issue(t, "www.example.com"))
	file := filepath.Join(filepath.Dir(cert), "config.json")
	configure := func(addresses ...string) {
		for i, a := range addresses {
			addresses[i] = fmt.Sprintf("%q", net.JoinHostPort(a, strconv.Itoa(port)))
		}
		writeFile(t, file, fmt.Sprintf(`{
			"server": {"accessLog": "none"},
			"https": {"bind": [%s], "cert": %q, "key": %q, "http3": true}
		}`, strings.Join(addresses, ", "), cert, key))
	}
	const first, second = "127.0.0.1", "127.0.0.2"
	get := func(address, target string) error {
		c := newQUICClient(t, ca.Pool(), port, "www.example.com")
		c.base = "https://" + net.JoinHostPort(address, strconv.Itoa(port))
		resp, text, err := c.do(http.MethodGet, target, "www.example.com", nil)
		if err == nil && (resp.StatusCode != http.StatusOK || text != "hello") {
			err = fmt.Errorf("got %d %q", resp.StatusCode, text)
		}
		return err
	}
	configure(first)
	d := newDeployment(t, "--config="+file, routesFile(t, map[string]string{"www.example.com": backend.URL()}))
	d.awaitLog("listening", "protocol=http/3")
	configure(first, second)
	old := d.handOver()
	d.awaitLog("the old process has ended", fmt.Sprintf("old_pid=%d", old))

	slow := make(chan error, 1)
	go func() { slow <- get(second, "/slow") }()
	d.await("the request", func() bool { return strings.Contains(d.metrics(), "sluice_streams 1\n") })
	old = d.handOver()
	for i := range 8 {
		for _, address := range []string{first, second} {
			if err := get(address, "/"); err != nil {
				t.Errorf("connection %d of the new process to %s: %v", i, address, err)
			}
		}
	}
	<-release
	if err := <-slow; err != nil {
		t.Errorf("the request of the old process: %v", err)
	}
	if status := d.exitStatusOf(old); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
}

// A socket of systemd has no second one: a handover closes its connections, and the new process has
// the next ones.
func TestSystemd_HTTP3(t *testing.T) {
	t.Parallel()
	backend := backendtest.HTTP(t, backendtest.Text(http.StatusOK, "hello"))
	ca := certtest.New(t)
	port := quicPort(t)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	binary := filepath.Join(openFolder(t), "sluice")
	installBinary(t, binary)
	flags, _, _ := quicFlags(t, port, ca.Issue(t, "www.example.com"))
	public, adminPort := freePort(t), freePort(t)
	cmd := activate(t, binary, []any{socket}, append(flags, "--user=root", fmt.Sprintf("--http-port=%d", public),
		fmt.Sprintf("--admin-port=%d", adminPort), routesFile(t, map[string]string{"www.example.com": backend.URL()}))...)
	d := deploy(t, cmd, binary, public, adminPort)
	d.awaitLog("socket taken from systemd", "udp")
	c := newQUICClient(t, ca.Pool(), port, "www.example.com")
	if resp, _, err := c.do(http.MethodGet, "/", "www.example.com", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	old := d.handOver()
	d.awaitLog("http/3 connections are closed")
	if status := d.exitStatusOf(old); status != exitOK {
		t.Errorf("exit status %d, want 0", status)
	}
	// The client was told, and comes back at once.
	if resp, _, err := c.do(http.MethodGet, "/", "www.example.com", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("after the handover: %v, %v", resp, err)
	}
}

// What is in the way of HTTP/3 is said with the way out.
func TestProcess_HTTP3CannotStart(t *testing.T) {
	t.Parallel()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	ca := certtest.New(t)
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	flags, _, _ := quicFlags(t, taken.LocalAddr().(*net.UDPAddr).Port, ca.Issue(t, "www.example.com"))
	stray, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	for name, tt := range map[string]struct {
		sockets []any
		flags   []string
		parts   []string
	}{
		"port taken": {nil, flags, []string{"over UDP: another process has that port", "https.http3 needs it"}},
		"stray socket": {
			[]any{stray},
			[]string{"--server-access-log=none"},
			[]string{"systemd passed a datagram socket for " + stray.LocalAddr().String(), "set https.http3"},
		},
	} {
		cmd := activate(t, binary, tt.sockets, append(tt.flags, "--user=root", "--admin-port=0", "--http-port="+port(t), routesFile(t, nil))...)
		out, err := cmd.CombinedOutput()
		for _, part := range tt.parts {
			if err == nil || !strings.Contains(string(out), part) {
				t.Errorf("%s: %v, output %q lacks %q", name, err, out, part)
			}
		}
	}
}
