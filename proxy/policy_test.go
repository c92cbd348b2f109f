package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/backendtest"
)

// withPolicies makes an edge read a routes file with hosts of one backend and their policies.
func withPolicies(t *testing.T, backend string, policies map[string]string) func(*setup) {
	t.Helper()
	var lines []string
	for host, policy := range policies {
		lines = append(lines, fmt.Sprintf("%q: [%q, %q]", "frontend:"+host, host, backend), fmt.Sprintf("%q: %s", "route:"+host, policy))
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, []byte("{"+strings.Join(lines, ",\n")+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(s *setup) { s.cache.Driver = []string{"file:" + file} }
}

func overHTTP2(s *setup) { s.bind.HTTP2 = s.bind.TLS != nil }

// browser returns a client that goes to e whatever the URL says, and follows no redirect.
func browser(e *edge, cert *backendtest.Certificate, http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.addr)
		},
		ForceAttemptHTTP2: http2, DisableCompression: true,
	}
	if cert != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: cert.Roots}
		if !http2 {
			transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
	}
	e.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var policyHosts = map[string]string{
	"force.example":   `{"redirectHttps": true}`,
	"old.example":     `{"redirectHttps": true, "redirectCode": 301, "hsts": "60"}`,
	"alias.example":   `{"canonicalHost": "www.alias.example", "hsts": "60; includeSubDomains"}`,
	"hsts.example":    `{"hsts": "31536000; includeSubDomains; preload"}`,
	"nothing.example": `{"redirectHttps": false}`,
}

func TestPolicy_Redirects(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	var names []string
	for host := range policyHosts {
		names = append(names, host)
	}
	cert := backendtest.SelfSigned(t, names...)
	policies := withPolicies(t, backend.URL(), policyHosts)
	plain := newEdge(t, nil, policies)
	secure := newEdge(t, nil, policies, overTLS(cert), overHTTP2)
	clients := map[string]*http.Client{
		"http": browser(plain, nil, false), "https": browser(secure, &cert, false), "h2": browser(secure, &cert, true),
	}
	for _, tt := range []struct {
		method, url string // without scheme
		fields      map[string]string
		plain       string // status and Location
		secure      string
	}{
		{"GET", "force.example/a%2Fb?q=1&r", nil, "308 https://force.example/a%2Fb?q=1&r", "200"},
		{"POST", "force.example/", nil, "308 https://force.example/", "200"},
		{"GET", "force.example//evil.example/", nil, "308 https://force.example//evil.example/", "200"},
		{"GET", "old.example/x", nil, "301 https://old.example/x", "200"},
		{"HEAD", "old.example/x", nil, "301 https://old.example/x", "200"},
		{"POST", "old.example/x", nil, "308 https://old.example/x", "200"},
		{"GET", "force.example/.well-known/acme-challenge/token", nil, "200", "200"},
		{"GET", "force.example/.well-known/acme", nil, "308 https://force.example/.well-known/acme", "200"},
		{"GET", "alias.example/x", nil, "308 http://www.alias.example/x", "308 https://www.alias.example/x"},
		{"GET", "alias.example/.well-known/acme-challenge/token", nil, "200", "200"},
		{"GET", "hsts.example/", nil, "200", "200"},
		{"GET", "nothing.example/", nil, "200", "200"},
		// A load balancer in front that ended TLS, and is trusted because it comes from loopback.
		{"GET", "force.example/", map[string]string{"X-Forwarded-Proto": "https"}, "200", "200"},
		{"GET", "force.example/", map[string]string{"X-Forwarded-Proto": "http"}, "308 https://force.example/", "308 https://force.example/"},
	} {
		for scheme, client := range clients {
			want, url := tt.secure, "https://"+tt.url
			if scheme == "http" {
				want, url = tt.plain, "http://"+tt.url
			}
			r, err := http.NewRequestWithContext(t.Context(), tt.method, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.fields {
				r.Header.Set(name, value)
			}
			a, err := client.Do(r)
			if err != nil {
				t.Errorf("%s %s %s: %v", scheme, tt.method, tt.url, err)
				continue
			}
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
			got := strings.TrimSpace(fmt.Sprintf("%d %s", a.StatusCode, a.Header.Get("Location")))
			if got != want {
				t.Errorf("%s %s %s %v: got %q, want %q", scheme, tt.method, tt.url, tt.fields, got, want)
			}
			if a.Header.Get("X-Sluice-Error") != "" {
				t.Errorf("%s %s: a redirect calls itself an error", scheme, tt.url)
			}
		}
	}
	if plain.metric(`sluice_redirects_total{to="https"}`) == 0 || plain.metric(`sluice_redirects_total{to="canonical_host"}`) == 0 {
		t.Error("redirects are not counted")
	}
	if logged := strings.Join(plain.awaitLog(1), "\n"); !strings.Contains(logged, `" 308 0 `) {
		t.Errorf("no redirect in the access log:\n%s", logged)
	}
}

func TestPolicy_UntrustedClientCannotClaimHTTPS(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	e := newEdge(t, nil, withPolicies(t, backend.URL(), policyHosts), func(s *setup) {
		s.TrustedProxies, s.TrustedProxiesSet = []netip.Prefix{}, true
	})
	a := e.get("force.example", "X-Forwarded-Proto: https")
	if a.StatusCode != 308 {
		t.Errorf("got %d, want 308", a.StatusCode)
	}
}

func TestPolicy_HSTS(t *testing.T) {
	t.Parallel()
	own := backendtest.Canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nstrict-transport-security: max-age=5\r\n\r\nok")
	without := backendtest.Echo(t, "echo")
	hosts := map[string]string{"hsts.example": policyHosts["hsts.example"]}
	cert := backendtest.SelfSigned(t, "hsts.example")
	for name, tt := range map[string]struct {
		backend string
		secure  bool
		want    []string
	}{
		"over TLS":            {without.URL(), true, []string{"max-age=31536000; includeSubDomains; preload"}},
		"over plain HTTP":     {without.URL(), false, nil},
		"the backend's own":   {own.URL(), true, []string{"max-age=5"}},
		"of an error of ours": {"http://127.0.0.1:1", true, []string{"max-age=31536000; includeSubDomains; preload"}},
		"of a backend, plain": {own.URL(), false, []string{"max-age=5"}},
	} {
		for _, http2 := range []bool{false, true} {
			change, scheme := []func(*setup){withPolicies(t, tt.backend, hosts), overHTTP2}, "http"
			client := (*backendtest.Certificate)(nil)
			if tt.secure {
				change, scheme, client = append([]func(*setup){overTLS(cert)}, change...), "https", &cert
			} else if http2 {
				continue
			}
			e := newEdge(t, nil, change...)
			a, err := browser(e, client, http2).Get(scheme + "://hsts.example/")
			if err != nil {
				t.Fatal(err)
			}
			a.Body.Close()
			if got := a.Header["Strict-Transport-Security"]; fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%s, http2 %v: got %q, want %q", name, http2, got, tt.want)
			}
		}
	}
}

// The port of a redirect: where the client can reach it, as far as that can be known.
func TestPolicy_RedirectPorts(t *testing.T) {
	t.Parallel()
	backend := backendtest.Echo(t, "echo")
	cert := backendtest.SelfSigned(t, "alias.example")
	policies := withPolicies(t, backend.URL(), policyHosts)
	atPort := func(https, public int) *edge {
		return newEdge(t, nil, policies, func(s *setup) { s.HTTPSPort, s.PublicHTTPSPort = https, public })
	}
	none, usual, other, public, standard := atPort(0, 0), atPort(443, 0), atPort(8443, 0), atPort(8443, 9443), atPort(8443, 443)
	secure := newEdge(t, nil, policies, overTLS(cert))
	own := func(e *edge) string {
		_, port, _ := net.SplitHostPort(e.addr)
		return ":" + port
	}
	forwarded := [2]string{"X-Forwarded-Proto", "http"}
	for _, tt := range []struct {
		edge  *edge
		host  string
		field [2]string
		want  string
	}{
		{none, "force.example" + own(none), [2]string{}, "https://force.example/"},
		{usual, "force.example" + own(usual), [2]string{}, "https://force.example/"},
		{other, "force.example" + own(other), [2]string{}, "https://force.example:8443/"},
		{other, "force.example", [2]string{}, "https://force.example/"},      // something maps port 80 to ours
		{other, "force.example:8080", [2]string{}, "https://force.example/"}, // or another one
		{other, "force.example" + own(other), forwarded, "https://force.example/"},
		{public, "force.example", [2]string{}, "https://force.example:9443/"},
		{public, "force.example" + own(public), forwarded, "https://force.example:9443/"},
		{standard, "force.example" + own(standard), [2]string{}, "https://force.example/"},
		// Only the host changes.
		{other, "alias.example:8080", [2]string{}, "http://www.alias.example:8080/"},
		{other, "alias.example:80", [2]string{}, "http://www.alias.example/"},
		{secure, "alias.example:8443", [2]string{}, "https://www.alias.example:8443/"},
		{secure, "alias.example:443", [2]string{}, "https://www.alias.example/"},
	} {
		client, scheme := browser(tt.edge, nil, false), "http://"
		if tt.edge == secure {
			client, scheme = browser(secure, &cert, false), "https://"
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+tt.host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.field[0] != "" {
			r.Header.Set(tt.field[0], tt.field[1])
		}
		r.Host = tt.host // with the usual port, too
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if got := a.Header.Get("Location"); got != tt.want {
			t.Errorf("%s %v: got %q, want %q", tt.host, tt.field, got, tt.want)
		}
	}
}
