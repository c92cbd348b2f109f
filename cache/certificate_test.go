package cache

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/certtest"
	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// fieldsOf is a pair as the store holds it.
func fieldsOf(p certtest.Pair) map[string]string {
	return map[string]string{"certificate": p.Certificate, "key": p.Key}
}

// serialOf returns the serial number of the certificate for a name, or "none".
func serialOf(c *Cache, name string) string {
	cert := c.Certificate(name, testClient)
	if cert == nil {
		return "none"
	}
	return cert.Leaf.SerialNumber.String()
}

func wantSerial(t testing.TB, c *Cache, name, want string) {
	t.Helper()
	if got := serialOf(c, name); got != want {
		t.Fatalf("certificate of %s: got %s, want %s", name, got, want)
	}
}

func awaitSerial(t testing.TB, c *Cache, name, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the certificate of %s is %s", name, want), func() bool { return serialOf(c, name) == want })
}

func TestCertificate_ExactThenOneLabelAndRenewed(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		ca := certtest.New(t)
		exact, wild := ca.Issue(t, "www.a.example"), ca.Issue(t, "*.a.example")
		r.setHash("tls:www.a.example", fieldsOf(exact))
		r.setHash("tls:*.a.example", fieldsOf(wild))
		c := start(t, Options{Driver: []string{r.driver()}, TornWriteGrace: -1})
		wantSerial(t, c, "www.a.example", exact.Serial)
		wantSerial(t, c, "b.a.example", wild.Serial)
		wantSerial(t, c, "c.b.a.example", "none")
		wantSerial(t, c, "a.example", "none")
		wantSerial(t, c, "b.example", "none")
		if a, b := c.Certificate("www.a.example", testClient), c.Certificate("www.a.example", testClient); a != b {
			t.Error("a certificate was parsed twice")
		}

		renewed := ca.Issue(t, "www.a.example")
		r.setHash("tls:www.a.example", fieldsOf(renewed))
		awaitSerial(t, c, "www.a.example", renewed.Serial)
		late := ca.Issue(t, "b.example")
		r.setHash("tls:b.example", fieldsOf(late))
		awaitSerial(t, c, "b.example", late.Serial)
		r.setHash("tls:www.a.example", nil)
		awaitSerial(t, c, "www.a.example", wild.Serial)
	})
}

func TestCertificate_WhatCannotBeUsedIsSkippedAndNamedOnce(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	wild := ca.Issue(t, "*.a.example")
	good, other := ca.Issue(t, "x.a.example"), ca.Issue(t, "x.a.example")
	expired := ca.IssueWith(t, certtest.Expired, "x.a.example")
	for name, tt := range map[string]struct {
		fields map[string]string
		cause  string
	}{
		"no key":        {map[string]string{"certificate": good.Certificate}, "unusable"},
		"no PEM":        {map[string]string{"certificate": "x", "key": good.Key}, "unusable"},
		"another key":   {map[string]string{"certificate": good.Certificate, "key": other.Key}, "mismatch"},
		"another name":  {fieldsOf(ca.Issue(t, "y.a.example")), "not_covered"},
		"expired":       {fieldsOf(expired), "dates"},
		"too large":     {map[string]string{"certificate": strings.Repeat("x", maxHashBytes), "key": good.Key}, "too_large"},
		"unknown field": {map[string]string{"cert": good.Certificate, "key": good.Key}, "unknown_field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &redisRoutes{redistest.Start(t)}
			var log logtest.Buffer
			set := metrics.NewSet()
			r.setHash("tls:*.a.example", fieldsOf(wild))
			r.setHash("tls:x.a.example", tt.fields)
			c := start(t, Options{Driver: []string{r.driver()}, Log: log.Logger(), Metrics: set})
			for range 5 {
				wantSerial(t, c, "x.a.example", wild.Serial)
			}
			var text bytes.Buffer
			set.WritePrometheus(&text)
			if want := fmt.Sprintf("sluice_certificate_invalid_total{cause=%q}", tt.cause); !strings.Contains(text.String(), want) {
				t.Errorf("no metric %s", want)
			}
			if n := strings.Count(log.String(), "kind="+tt.cause); n != 1 {
				t.Errorf("%d log lines of kind %s, want 1:\n%s", n, tt.cause, log.String())
			}
			if secret := strings.Split(good.Key, "\n")[1]; strings.Contains(log.String(), secret) {
				t.Error("the log holds a private key")
			}
		})
	}
}

// An expired certificate is better than one that does not hold the name at all: the client learns
// what is wrong. A valid one of the wildcard is better than both.
func TestCertificate_ExpiredServesWhereNothingElseDoes(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	ca := certtest.New(t)
	expired := ca.IssueWith(t, certtest.Expired, "x.a.example")
	r.setHash("tls:x.a.example", fieldsOf(expired))
	c := start(t, Options{Driver: []string{r.driver()}})
	wantSerial(t, c, "x.a.example", expired.Serial)
	wild := ca.Issue(t, "*.a.example")
	r.setHash("tls:*.a.example", fieldsOf(wild))
	awaitSerial(t, c, "x.a.example", wild.Serial)
}

// A renewal in two steps, or one that went wrong, leaves the certificate before it in use.
func TestCertificate_KeepsTheLastOneThatWorked(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	ca := certtest.New(t)
	first, second := ca.Issue(t, "x.a.example"), ca.Issue(t, "x.a.example")
	r.setHash("tls:x.a.example", fieldsOf(first))
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{r.driver()}, Log: log.Logger()})
	wantSerial(t, c, "x.a.example", first.Serial)
	r.Do("HSET", "tls:x.a.example", "certificate", second.Certificate)
	eventually(t, "the mismatch is noted", func() bool {
		wantSerial(t, c, "x.a.example", first.Serial)
		return strings.Contains(log.String(), "kind=mismatch")
	})
	r.Do("HSET", "tls:x.a.example", "key", second.Key)
	awaitSerial(t, c, "x.a.example", second.Serial)
}

func TestCertificate_WrongTypeAndHugeHash(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	r.Do("RPUSH", "tls:a.example", "x")
	r.Load(func(yield func(args ...string)) {
		for i := range 10_000 {
			yield("HSET", "tls:b.example", fmt.Sprint("field", i), strings.Repeat("x", 100))
		}
	})
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{r.driver()}, Log: log.Logger()})
	wantSerial(t, c, "a.example", "none")
	wantSerial(t, c, "b.example", "none")
	for _, want := range []string{"kind=wrong_type", "kind=too_large"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestCertificate_KnownOnesServeWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := &redisRoutes{s}
	ca := certtest.New(t)
	known, later := ca.Issue(t, "x.a.example"), ca.Issue(t, "x.a.example")
	r.setHash("tls:x.a.example", fieldsOf(known))
	c := start(t, Options{Driver: []string{s.URL()}})
	wantSerial(t, c, "x.a.example", known.Serial)
	s.Kill()
	eventually(t, "the watch is down", func() bool { return c.epoch.Load()&1 == 0 })
	begin := time.Now()
	for range 1000 {
		wantSerial(t, c, "x.a.example", known.Serial)
		wantSerial(t, c, "never.seen.example", "none")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("2000 answers without a store took %v", took)
	}
	s.Restart() // empty
	r.setHash("tls:x.a.example", fieldsOf(later))
	awaitSerial(t, c, "x.a.example", later.Serial)
}

// Each topology pushes and serves the hashes as it does lists.
func TestHashes_OnEachTopology(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	follow := func(t *testing.T, driver string, do func(args ...string) any, options Options) {
		hset := func(p certtest.Pair) {
			do("HSET", "tls:x.a.example", "certificate", p.Certificate, "key", p.Key)
		}
		first, second := ca.Issue(t, "x.a.example"), ca.Issue(t, "x.a.example")
		hset(first)
		do("RPUSH", "frontend:x.a.example", "x", "10.0.0.1")
		do("HSET", "route:*.a.example", "hsts", "7")
		options.Driver = []string{driver}
		c := start(t, options)
		awaitSerial(t, c, "x.a.example", first.Serial)
		awaitPolicy(t, c, "x.a.example", "hsts max-age=7")
		hset(second)
		awaitSerial(t, c, "x.a.example", second.Serial)
		do("HSET", "route:*.a.example", "hsts", "8")
		awaitPolicy(t, c, "x.a.example", "hsts max-age=8")
		do("HSET", "route:x.a.example", "redirectHttps", "true")
		awaitPolicy(t, c, "x.a.example", "redirect 308")
		do("DEL", "route:x.a.example")
		awaitPolicy(t, c, "x.a.example", "hsts max-age=8")
		do("DEL", "tls:x.a.example")
		awaitSerial(t, c, "x.a.example", "none")
	}
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		master := redistest.Start(t)
		follow(t, redistest.StartReplica(t, master).URL(), master.Do, Options{})
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartSentinels(t, 0)
		follow(t, s.URL(), s.Redis[0].Do, Options{})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartCluster(t, 3, false)
		follow(t, s.URL(), func(args ...string) any { return s.Do(t, args...) }, Options{})
	})
	t.Run("prefix", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		follow(t, s.URL()+"#p[x]*:", func(args ...string) any {
			args[1] = "p[x]*:" + args[1]
			return s.Do(args...)
		}, Options{})
	})
	for name, refuse := range map[string]string{"optin": " BCAST ", "poll": "CLIENT TRACKING ON"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			address := redistest.StartGate(t, s, func(command string) string {
				if strings.Contains(command, refuse) {
					return "ERR unknown subcommand"
				}
				return ""
			})
			follow(t, "redis://"+address, s.Do, Options{NegativeTTL: time.Hour})
		})
	}
}

// A flood of random server names must neither reach the store name by name nor fill the memory.
func TestCertificate_FloodOfRandomNames(t *testing.T) {
	t.Parallel()
	flood := func(t *testing.T, s *redistest.Server, driver string, followed bool, o Options) (reads int64, c *Cache) {
		r := &redisRoutes{s}
		known := certtest.New(t).Issue(t, "x.a.example")
		r.setHash("tls:x.a.example", fieldsOf(known))
		later := certtest.New(t).Issue(t, "late.a.example")
		r.setHash("tls:late.a.example", fieldsOf(later))
		o.Driver = []string{driver}
		c = start(t, o)
		awaitSerial(t, c, "x.a.example", known.Serial)
		before := hscans(s)
		for i := range 20_000 {
			wantSerial(t, c, fmt.Sprintf("r%d.b%d.example", i, i), "none")
		}
		wantSerial(t, c, "x.a.example", known.Serial)
		if reads = hscans(s) - before; followed {
			// Known to exist, though never asked for: the limits are for names that come to nothing.
			wantSerial(t, c, "late.a.example", later.Serial)
		}
		return reads, c
	}
	t.Run("names are followed", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		s.Do("RPUSH", "frontend:warm.example", "w", "10.0.0.1")
		reads, _ := flood(t, s, s.URL(), true, Options{})
		if reads > 100 { // before the first walk through the keys ended
			t.Errorf("the store was asked %d times for names that it does not have", reads)
		}
	})
	t.Run("names are not followed", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		address := redistest.StartGate(t, s, func(command string) string {
			if strings.HasPrefix(command, "SCAN") {
				return "NOPERM no"
			}
			return ""
		})
		begin := time.Now()
		reads, c := flood(t, s, "redis://"+address, false, Options{MaxMissRate: 1000, MaxUnknownHosts: 500})
		// Two names for each handshake: the exact one and the wildcard.
		if limit := 2 * maxClientMissRate * int64(time.Since(begin).Seconds()+2); reads > limit {
			t.Errorf("the store was asked %d times, want %d at most", reads, limit)
		}
		c.mu.Lock()
		absent := len(c.certificates.absent.current) + len(c.certificates.absent.before)
		c.mu.Unlock()
		if absent > 510 || c.m.certsLimited.Get() == 0 {
			t.Errorf("%d absent names are remembered, %d lookups were limited", absent, c.m.certsLimited.Get())
		}
	})
}

// Many handshakes for one name that the bind entry serves must not stop the first one for another.
func TestCertificate_AnswersFromMemoryAreNotCharged(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	own := certtest.New(t).Issue(t, "shop.b.example")
	(&redisRoutes{s}).setHash("tls:shop.b.example", fieldsOf(own))
	address := redistest.StartGate(t, s, func(command string) string {
		if strings.HasPrefix(command, "SCAN") {
			return "NOPERM no"
		}
		return ""
	})
	c := start(t, Options{Driver: []string{"redis://" + address}, NegativeTTL: time.Hour})
	for range 3 * maxClientMissRate {
		wantSerial(t, c, "www.a.example", "none")
	}
	wantSerial(t, c, "shop.b.example", own.Serial)
	if n := c.m.certsLimited.Get(); n != 0 {
		t.Errorf("%d handshakes were limited", n)
	}
}

// hscans returns how many HSCAN a server has performed.
func hscans(s *redistest.Server) int64 {
	var n int64
	_, after, ok := strings.Cut(s.Text("INFO", "commandstats"), "cmdstat_hscan:calls=")
	if ok {
		_, _ = fmt.Sscan(strings.SplitN(after, ",", 2)[0], &n)
	}
	return n
}

func TestCertificate_SingleFlightAndBoundedSpace(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := &redisRoutes{s}
	ca := certtest.New(t)
	wild := ca.Issue(t, "*.a.example", "*.b.example")
	for i := range 40 {
		r.setHash(fmt.Sprintf("tls:h%d.a.example", i), fieldsOf(wild))
	}
	c := start(t, Options{Driver: []string{s.URL()}, MaxCertificates: 10, MaxMissRate: -1})
	before := hscans(s)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() { wantSerial(t, c, "h0.a.example", wild.Serial) })
	}
	all.Wait()
	if n := hscans(s) - before; n > 10 { // the wildcard's too, until the names are known
		t.Errorf("200 handshakes for one name asked %d times", n)
	}
	for i := range 40 {
		wantSerial(t, c, fmt.Sprintf("h%d.a.example", i), wild.Serial)
	}
	if n := c.certificates.count(); n > 10 {
		t.Errorf("%v certificates are kept, want 10 at most", n)
	}
}

func TestCertificate_NamesThatAreNoHosts(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	wild := certtest.New(t).Issue(t, "*.a.example")
	r.setHash("tls:*.a.example", fieldsOf(wild))
	c := start(t, Options{Driver: []string{r.driver()}})
	for _, name := range []string{"", "*", "*.a.example", "a\nb.a.example", "X.a.example", "é.a.example", strings.Repeat("a", 300)} {
		wantSerial(t, c, name, "none")
	}
}

// The certificates that h2 and others look at come with what they need.
func TestCertificate_HasLeafAndChain(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	ca := certtest.New(t)
	p := ca.Issue(t, "x.a.example")
	p.Certificate += ca.PEM()
	r.setHash("tls:x.a.example", fieldsOf(p))
	c := start(t, Options{Driver: []string{r.driver()}})
	cert := c.Certificate("x.a.example", testClient)
	if cert == nil || cert.Leaf == nil || len(cert.Certificate) != 2 {
		t.Fatalf("got %+v", cert)
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "x.a.example"}); err != nil {
		t.Error(err)
	}
	if _, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key)); err != nil {
		t.Error(err)
	}
}
