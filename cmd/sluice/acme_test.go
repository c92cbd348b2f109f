package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/acmetest"
	"sluice/internal/backendtest"
	"sluice/internal/certtest"
	"sluice/internal/redistest"
)

// acmeFleet is two edges that share a store and an authority. They have the same ports on addresses
// of their own, so that a name can be made to lead to either.
type acmeFleet struct {
	t         *testing.T
	redis     *redistest.Server
	authority *acmetest.Authority
	edges     [2]*process
	tls       [2]string // their https addresses
	backend   string
	own       certtest.Pair // what both serve by default
}

// startFleet starts the store, the authority and both edges with further flags.
func startFleet(t *testing.T, o acmetest.Options, args ...string) *acmeFleet {
	t.Helper()
	o.HTTPPort, o.TLSPort = freePort(t), freePort(t)
	f := &acmeFleet{
		t: t, redis: redistest.Start(t), authority: acmetest.Start(t, o),
		own: certtest.New(t).Issue(t, "default.example"), backend: backendtest.Echo(t, "echo").URL(),
	}
	folder := t.TempDir()
	cert := writeFile(t, filepath.Join(folder, "cert.pem"), f.own.Certificate)
	key := writeFile(t, filepath.Join(folder, "key.pem"), f.own.Key)
	roots := f.authority.CAFile(t)
	for i := range f.edges {
		address := fmt.Sprintf("127.0.0.%d", i+1)
		f.tls[i] = fmt.Sprintf("%s:%d", address, o.TLSPort)
		f.edges[i] = launchOn(t, o.HTTPPort, append([]string{
			"--user=root", "--server-access-log=none", "--driver=" + f.redis.URL(),
			fmt.Sprintf("--http-bind=%s:%d", address, o.HTTPPort), "--https-bind=" + f.tls[i],
			"--https-cert=" + cert, "--https-key=" + key,
			"--acme-on-demand=true", "--acme-directory=" + f.authority.Directory(), "--acme-ca=" + roots,
			"--acme-email=ops@sluice.example",
		}, args...)...)
		f.edges[i].base = fmt.Sprintf("http://%s:%d", address, o.HTTPPort)
	}
	return f
}

// route gives a name a frontend, and an address: that of the edge at index i.
func (f *acmeFleet) route(name string, i int) {
	f.t.Helper()
	f.redis.Do("RPUSH", "frontend:"+name, name, f.backend)
	f.authority.Resolve(name, fmt.Sprintf("127.0.0.%d", i+1))
}

// shake returns the certificate that edge i shows to a client that asks for name.
func (f *acmeFleet) shake(i int, name string) *x509.Certificate {
	f.t.Helper()
	conn, err := tls.Dial("tcp", f.tls[i], &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // the certificate is looked at
	if err != nil {
		f.t.Errorf("handshake with %s for %s: %v", f.tls[i], name, err)
		return &x509.Certificate{}
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// isIssued tells whether the authority vouches for cert.
func (f *acmeFleet) isIssued(cert *x509.Certificate, name string) bool {
	if cert.Raw == nil || cert.VerifyHostname(name) != nil {
		return false
	}
	// The chain below the root came in the handshake; that it is complete is tested once, with curl's eyes.
	return !strings.Contains(cert.Issuer.CommonName, "sluice") && strings.Contains(cert.Issuer.CommonName, "Pebble")
}

func (f *acmeFleet) isDefault(cert *x509.Certificate) bool {
	return cert.SerialNumber != nil && cert.SerialNumber.String() == f.own.Serial
}

// metric sums a series up over both edges.
func (f *acmeFleet) metric(series string) (sum float64) {
	f.t.Helper()
	for _, e := range f.edges {
		value, _ := e.metric(series)
		sum += value
	}
	return sum
}

// lines returns the lines of both logs that have all the parts.
func (f *acmeFleet) lines(parts ...string) (found []string) {
	for _, e := range f.edges {
		for line := range strings.Lines(e.log.String()) {
			if hasLine(line, parts...) {
				found = append(found, line)
			}
		}
	}
	return found
}

func (f *acmeFleet) checkMetric(series string, want float64) {
	f.t.Helper()
	if got := f.metric(series); got != want {
		f.t.Errorf("%s: got %v, want %v", series, got, want)
	}
}

// All handshakes come at once and to both edges; the authority's questions come to one of them.
func TestACME_OneOrderForAFleet(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tls-alpn-01", "http-01"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, acmetest.Options{}, "--acme-challenges="+kind)
			for target := range f.edges {
				name := fmt.Sprintf("www%d.shop.example", target)
				f.route(name, target)
				var clients sync.WaitGroup
				for i := range 8 {
					clients.Go(func() {
						if cert := f.shake(i%2, name); !f.isIssued(cert, name) {
							t.Errorf("%s on edge %d: got a certificate of %s for %v", name, i%2, cert.Issuer, cert.DNSNames)
						}
					})
				}
				clients.Wait()
				if n := f.authority.Ordered(name); n != 1 {
					t.Errorf("%s: %d orders, want 1", name, n)
				}
				f.checkTrust(name)
			}
			f.checkMetric("sluice_acme_issued_total", 2)
			f.checkMetric("sluice_acme_orders_in_progress", 0)
			if f.metric(fmt.Sprintf("sluice_acme_challenges_answered_total{challenge=%q}", kind)) < 2 {
				t.Error("the edges do not count the challenges that they answered")
			}
			f.checkSecrets()
			// What nobody has asked for is the application's.
			request, err := http.NewRequest(http.MethodGet, f.edges[0].base+"/.well-known/acme-challenge/0123456789abcdef", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = "www0.shop.example"
			if a := f.edges[0].do(request); a.status != http.StatusOK || !strings.Contains(a.body, "0123456789abcdef") {
				t.Errorf("a token that does not exist: %d %q, want the backend's answer", a.status, a.body)
			}
			for _, pattern := range []string{"acme:lock:*", "acme:http-01:*", "acme:tls-alpn-01:*", "acme:failed:*"} {
				if keys := f.redis.Strings("KEYS", pattern); len(keys) > 0 {
					t.Errorf("left behind: %v", keys)
				}
			}
		})
	}
}

// checkTrust asks both edges as a browser does that trusts the authority.
func (f *acmeFleet) checkTrust(name string) {
	f.t.Helper()
	for i, address := range f.tls {
		conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, RootCAs: f.authority.Roots()}) //nolint:gosec // a test
		if err != nil {
			f.t.Errorf("edge %d: %v", i, err)
			continue
		}
		_ = conn.Close()
	}
}

// checkSecrets looks for private keys where none may be.
func (f *acmeFleet) checkSecrets() {
	f.t.Helper()
	for _, key := range f.redis.Strings("KEYS", "tls:*") {
		text := strings.Split(f.redis.Text("HGET", key, "key"), "\n")
		if len(text) < 2 {
			f.t.Errorf("%s holds no key", key)
			continue
		}
		for i, e := range f.edges {
			if strings.Contains(e.log.String(), text[1]) {
				f.t.Errorf("the log of edge %d holds the key of %s", i, key)
			}
		}
	}
}

func TestACME_OnlyForNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{})
	own := certtest.New(t)
	f.redis.Do("RPUSH", "frontend:*.wild.example", "wild", f.backend)
	f.redis.Do("RPUSH", "frontend:empty.example", "empty")
	f.authority.Resolve("any.wild.example", "127.0.0.1")
	f.authority.Resolve("nowhere.example", "127.0.0.1")
	for _, name := range []string{"by-hand.example", "expired.example", "sub.covered.example"} {
		f.route(name, 0)
	}
	byHand, wild := own.Issue(t, "by-hand.example"), own.Issue(t, "*.covered.example")
	f.redis.Do("HSET", "tls:by-hand.example", "certificate", byHand.Certificate, "key", byHand.Key)
	f.redis.Do("HSET", "tls:*.covered.example", "certificate", wild.Certificate, "key", wild.Key)
	expired := own.IssueWith(t, certtest.Expired, "expired.example")
	f.redis.Do("HSET", "tls:expired.example", "certificate", expired.Certificate, "key", expired.Key)
	for name, want := range map[string]string{
		"nowhere.example": f.own.Serial, "any.wild.example": f.own.Serial, "empty.example": f.own.Serial, "default.example": f.own.Serial,
		"by-hand.example": byHand.Serial, "sub.covered.example": wild.Serial, "expired.example": expired.Serial,
	} {
		for i := range f.edges {
			if got := f.shake(i, name); got.SerialNumber.String() != want {
				t.Errorf("%s on edge %d: got a certificate for %v", name, i, got.DNSNames)
			}
		}
	}
	if n := f.authority.Requests(); n != 0 {
		t.Errorf("the authority heard of it: %d requests", n)
	}
	if got := f.redis.Text("HGET", "tls:expired.example", "certificate"); got != expired.Certificate {
		t.Error("somebody else's certificate was replaced")
	}
}

func TestACME_Refusals(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{})
	f.route("www.blocked.example", 0)
	f.authority.Block(t, "blocked.example")
	f.redis.Do("RPUSH", "frontend:www.unresolved.example", "u", f.backend)
	for name, want := range map[string]struct {
		orders int
		reason string
		parts  []string
	}{
		"www.blocked.example":    {0, "refused", []string{"rejectedIdentifier", "advice=", "retry_in=1"}},
		"www.unresolved.example": {2, "challenge", []string{"advice=", "retry_in=1"}},
	} {
		for range 3 {
			for i := range f.edges {
				if got := f.shake(i, name); !f.isDefault(got) {
					t.Errorf("%s on edge %d: got a certificate for %v", name, i, got.DNSNames)
				}
			}
		}
		if n := f.authority.Ordered(name); n != want.orders {
			t.Errorf("%s: %d orders were accepted, want %d", name, n, want.orders)
		}
		if got := f.lines(append(want.parts, "certificate not issued", "host="+name, "reason="+want.reason)...); len(got) != 1 {
			t.Errorf("%s: want one line, got %q", name, got)
		}
		if ttl := f.redis.Int("TTL", "acme:failed:"+name); ttl < 600 {
			t.Errorf("%s: the failure is remembered for %d s", name, ttl)
		}
		f.checkMetric(fmt.Sprintf("sluice_acme_failed_total{reason=%q}", want.reason), 1)
	}
	// Once the cause is mended, nobody needs to wait.
	f.authority.Resolve("www.unresolved.example", "127.0.0.2")
	f.redis.Do("DEL", "acme:failed:www.unresolved.example")
	f.edges[0].await("a certificate", func() bool { return f.isIssued(f.shake(0, "www.unresolved.example"), "www.unresolved.example") })
}

func TestACME_AuthorityAway(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{EABKeyID: "kid-1", EABKey: "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
		"--acme-eab-key-id=kid-1", "--acme-eab-key=zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
	f.authority.GoAway()
	for i := range 4 {
		name := fmt.Sprintf("www%d.away.example", i)
		f.route(name, 0)
		if begin := time.Now(); !f.isDefault(f.shake(i%2, name)) || time.Since(begin) > 12*time.Second {
			t.Errorf("%s: no default certificate within acme.wait: %v", name, time.Since(begin))
		}
	}
	if got := f.lines("certificate not issued"); len(got) != 1 || !strings.Contains(got[0], "reason=unreachable") {
		t.Errorf("want one line about all names, got %q", got)
	}
	f.authority.Restart(t)
	f.redis.Do("DEL", "acme:pause") // or half a minute later
	f.edges[1].await("a certificate", func() bool { return f.isIssued(f.shake(1, "www0.away.example"), "www0.away.example") })
	// An authority that has lost its accounts gets a new one.
	account := f.redis.Text("GET", f.redis.Strings("KEYS", "acme:account:*")[0])
	f.authority.Restart(t)
	f.route("www.reborn.example", 0)
	for i := range f.edges {
		name := fmt.Sprintf("www%d.reborn.example", i)
		f.route(name, 0)
		f.edges[i].await("a certificate", func() bool { return f.isIssued(f.shake(i, name), name) })
	}
	if f.redis.Text("GET", f.redis.Strings("KEYS", "acme:account:*")[0]) == account {
		t.Error("the account is the old one")
	}
	f.checkSecrets()
}

func TestACME_LimitPerDomain(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{}, "--acme-max-orders-per-domain=2")
	issued := 0
	for i, name := range []string{"a.limited.example", "b.limited.example", "c.limited.example", "d.limited.example", "other.example"} {
		f.route(name, 0)
		cert := f.shake(i%2, name)
		switch {
		case f.isIssued(cert, name):
			issued++
		case !f.isDefault(cert):
			t.Errorf("%s: got a certificate for %v", name, cert.DNSNames)
		}
	}
	if issued != 3 || !f.isIssued(f.shake(0, "other.example"), "other.example") {
		t.Errorf("%d certificates, want two of the limited domain and that of the other", issued)
	}
	if n := f.authority.Ordered("c.limited.example") + f.authority.Ordered("d.limited.example"); n != 0 {
		t.Errorf("%d orders beyond the limit", n)
	}
	f.checkMetric(`sluice_acme_limited_total{limit="domain"}`, 2)
	if len(f.lines("too many orders", "domain=limited.example")) == 0 {
		t.Error("no line about the limit")
	}
}

// Certificates live 20 s here, so they are renewed after some 13.
func TestACME_Renewal(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{Validity: 20 * time.Second})
	names := []string{"stays.example", "leaves.example", "taken.example"}
	first := map[string]string{}
	for i, name := range names {
		f.route(name, i%2)
		cert := f.shake(i%2, name)
		if !f.isIssued(cert, name) {
			t.Fatalf("%s: got a certificate for %v", name, cert.DNSNames)
		}
		first[name] = cert.SerialNumber.String()
	}
	// At once: what else is to be seen of the schedule may take until a certificate is due.
	f.redis.Do("DEL", "frontend:leaves.example")
	byHand := certtest.New(t).Issue(t, "taken.example")
	f.redis.Do("HSET", "tls:taken.example", "certificate", byHand.Certificate, "key", byHand.Key)
	// Edge 0 has issued the last one, and looks at the schedule then; the other one does within twelve seconds.
	f.edges[0].await("the schedule in the metrics", func() bool {
		scheduled, _ := f.edges[0].metric("sluice_acme_certificates")
		return scheduled == 3
	})
	if left, _ := f.edges[0].metric("sluice_acme_first_expiry_seconds"); left < 0 || left > 20 {
		t.Errorf("the first certificate ends in %v s", left)
	}
	// Nobody asks for it meanwhile: renewal is no matter of handshakes.
	for deadline := time.Now().Add(60 * time.Second); f.metric("sluice_acme_renewed_total") < 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was renewed")
		}
	}
	for i := range f.edges {
		if cert := f.shake(i, "stays.example"); !f.isIssued(cert, "stays.example") || cert.SerialNumber.String() == first["stays.example"] {
			t.Errorf("edge %d: not renewed", i)
		}
	}
	f.edges[0].await("the others to be forgotten", func() bool { return f.redis.Int("ZCARD", "acme:renew") == 1 })
	for name, want := range map[string]int{"stays.example": 2, "leaves.example": 1, "taken.example": 1} {
		if n := f.authority.Ordered(name); n != want {
			t.Errorf("%s: %d orders, want %d", name, n, want)
		}
	}
	if got := f.shake(1, "taken.example").SerialNumber.String(); got != byHand.Serial {
		t.Errorf("taken.example: got %s, want what was put there by hand", got)
	}
}

func TestACME_StoreAway(t *testing.T) {
	t.Parallel()
	f := startFleet(t, acmetest.Options{}, "--acme-wait=5")
	f.route("known.example", 0)
	known := f.shake(0, "known.example")
	if !f.isIssued(known, "known.example") {
		t.Fatalf("got a certificate for %v", known.DNSNames)
	}
	for i := range f.edges {
		f.edges[i].await("the certificate from the store", func() bool { return f.shake(i, "known.example").SerialNumber.Cmp(known.SerialNumber) == 0 })
	}
	f.route("late.example", 0)
	for _, e := range f.edges {
		e.awaitStatus("late.example", http.StatusOK) // it is known now
	}
	f.redis.Kill()
	f.edges[0].awaitLog("store unavailable")
	if got := f.shake(0, "known.example"); got.SerialNumber.Cmp(known.SerialNumber) != 0 {
		t.Errorf("known.example: got a certificate for %v", got.DNSNames)
	}
	if begin := time.Now(); !f.isDefault(f.shake(0, "late.example")) || time.Since(begin) > 8*time.Second {
		t.Errorf("late.example: no default certificate in time: %v", time.Since(begin))
	}
	f.redis.Restart()
	f.route("late.example", 1)
	for i := range f.edges {
		f.edges[i].await("a certificate", func() bool { return f.isIssued(f.shake(i, "late.example"), "late.example") })
	}
	if n := f.authority.Ordered("late.example"); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

func TestACME_MistakesInTheConfiguration(t *testing.T) {
	t.Parallel()
	routes := writeFile(t, filepath.Join(t.TempDir(), "routes.json"), "{}")
	for name, tt := range map[string]struct{ content, want string }{
		"routes file": {`{"acme": {"onDemand": true, "directory": "https://ca.example/dir"}, "driver": "file:` + routes + `"}`, "use a redis: driver"},
		"directory":   {`{"acme": {"onDemand": true}}`, "acme.directory"},
		"plain http":  {`{"acme": {"onDemand": true, "directory": "http://ca.example/dir"}}`, "https URL"},
		"challenge":   {`{"acme": {"onDemand": true, "directory": "https://ca.example/dir", "challenges": ["dns-01"]}}`, "tls-alpn-01 and http-01"},
		"wait":        {`{"acme": {"onDemand": true, "directory": "https://ca.example/dir", "wait": 20}}`, "server.headerTimeout"},
		"half an account": {
			`{"acme": {"onDemand": true, "directory": "https://ca.example/dir", "eabKey": "hush-hush"}}`, "together with acme.eabKey",
		},
		"roots": {`{"acme": {"onDemand": true, "directory": "https://ca.example/dir", "ca": "/none.pem"}}`, "acme.ca"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, stderr := runArgs(t, "--dry", "-c", writeConfig(t, tt.content), "--user", "root")
			if status != exitFailed || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "hush-hush") {
				t.Errorf("status %d, output %q, want one with %q", status, stderr, tt.want)
			}
		})
	}
}
