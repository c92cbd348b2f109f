package cache

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// policyText is a host's policy in a few words.
func policyText(c *Cache, host string) string {
	r, err := c.Lookup([]byte(host), testClient)
	if err != nil {
		return err.Error()
	}
	p := c.Policy(&r)
	var words []string
	if p.RedirectHTTPS {
		code := "308"
		if p.MovedPermanently {
			code = "301"
		}
		words = append(words, "redirect "+code)
	}
	if p.HSTS != "" {
		words = append(words, "hsts "+p.HSTS)
	}
	if p.CanonicalHost != "" {
		words = append(words, "canonical "+p.CanonicalHost)
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func wantPolicy(t testing.TB, c *Cache, host, want string) {
	t.Helper()
	if got := policyText(c, host); got != want {
		t.Fatalf("policy of %s: got %q, want %q", host, got, want)
	}
}

func awaitPolicy(t testing.TB, c *Cache, host, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the policy of %s is %q", host, want), func() bool { return policyText(c, host) == want })
}

func TestPolicy_ExactThenWildcardsAndFollowed(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("a.example", "a", "http://10.0.0.1")
		r.set("x.pool.example", "x", "http://10.0.0.1")
		r.set("*.pool.example", "pool", "http://10.0.0.2")
		c := start(t, Options{Driver: []string{r.driver()}, TornWriteGrace: -1})
		for _, host := range []string{"a.example", "x.pool.example", "y.pool.example"} {
			wantPolicy(t, c, host, "none")
		}
		r.setHash("route:*.pool.example", map[string]string{"redirectHttps": "true"})
		awaitPolicy(t, c, "x.pool.example", "redirect 308")
		awaitPolicy(t, c, "y.pool.example", "redirect 308")
		wantPolicy(t, c, "z.pool.example", "redirect 308")
		wantPolicy(t, c, "a.example", "none")
		r.setHash("route:*", map[string]string{"hsts": "10"})
		awaitPolicy(t, c, "a.example", "hsts max-age=10")
		wantPolicy(t, c, "x.pool.example", "redirect 308")
		r.setHash("route:y.pool.example", map[string]string{"canonicalHost": "www.pool.example", "redirectHttps": "1", "redirectCode": "301"})
		awaitPolicy(t, c, "y.pool.example", "redirect 301, canonical www.pool.example")
		r.setHash("route:y.pool.example", nil)
		awaitPolicy(t, c, "y.pool.example", "redirect 308")
		r.setHash("route:*.pool.example", nil)
		awaitPolicy(t, c, "x.pool.example", "hsts max-age=10")
		awaitPolicy(t, c, "y.pool.example", "hsts max-age=10")

		// The list of a host with a policy changes, and the policy stays.
		r.set("a.example", "a", "http://10.0.0.3")
		awaitAnswer(t, c, "a.example", "http://10.0.0.3")
		wantPolicy(t, c, "a.example", "hsts max-age=10")
	})
}

func TestPolicy_OfAllHostsIsOverriddenByField(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	r.set("a.example", "a", "http://10.0.0.1")
	r.set("b.example", "b", "http://10.0.0.1")
	r.setHash("route:b.example", map[string]string{"hsts": "off", "canonicalHost": "b.example"})
	c := start(t, Options{
		Driver: []string{r.driver()}, Policy: map[string]string{"redirectHttps": "true", "hsts": "10; includeSubDomains"},
	})
	wantPolicy(t, c, "a.example", "redirect 308, hsts max-age=10; includeSubDomains")
	wantPolicy(t, c, "b.example", "redirect 308, canonical b.example")
	if _, err := New(Options{Policy: map[string]string{"hsts": "soon"}}); err == nil || !strings.Contains(err.Error(), "hsts") {
		t.Errorf("a policy that cannot be parsed: got %v", err)
	}
}

func TestPolicy_MistakesAreNamedOnceAndTheRestCounts(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	r.set("a.example", "a", "http://10.0.0.1")
	r.setHash("route:a.example", map[string]string{"hsts": "10", "redirectHttps": "perhaps", "redirecthttps": "true"})
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{r.driver()}, Log: log.Logger()})
	for i := range 3 {
		wantPolicy(t, c, "a.example", "hsts max-age=10")
		r.setHash("route:a.example", map[string]string{
			"hsts": "10", "redirectHttps": "perhaps", "redirecthttps": "true", "canonicalHost": fmt.Sprintf("w%d.example", i),
		})
		awaitPolicy(t, c, "a.example", fmt.Sprintf("hsts max-age=10, canonical w%d.example", i))
		r.setHash("route:a.example", map[string]string{"hsts": "10", "redirectHttps": "perhaps", "redirecthttps": "true"})
		awaitPolicy(t, c, "a.example", "hsts max-age=10")
	}
	for _, want := range []string{`the field \"redirecthttps\" is unknown`, "redirectHttps is ignored: write true or false"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q stands %d times in the log, want once:\n%s", want, n, log.String())
		}
	}
}

func TestPolicy_StaysWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := &redisRoutes{s}
	r.set("a.example", "a", "http://10.0.0.1")
	r.setHash("route:*.example", map[string]string{"hsts": "10"})
	c := start(t, Options{Driver: []string{s.URL()}})
	wantPolicy(t, c, "a.example", "hsts max-age=10")
	s.Kill()
	eventually(t, "the watch is down", func() bool { return c.epoch.Load()&1 == 0 })
	wantPolicy(t, c, "a.example", "hsts max-age=10")
	s.Restart()
	r.set("a.example", "a", "http://10.0.0.2")
	awaitAnswer(t, c, "a.example", "http://10.0.0.2")
	awaitPolicy(t, c, "a.example", "none")
}

// Whoever uses no policies pays no read for their absence.
func TestPolicy_NoReadsWhereNobodyUsesThem(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	for i := range 300 {
		s.Do("RPUSH", fmt.Sprintf("frontend:h%d.a%d.example", i, i), "h", "10.0.0.1")
	}
	c := start(t, Options{Driver: []string{s.URL()}, MaxMissRate: -1})
	eventually(t, "the names are known", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.policies.index.empty(c.epoch.Load())
	})
	before := hscans(s)
	for i := range 300 {
		wantAnswer(t, c, fmt.Sprintf("h%d.a%d.example", i, i), "10.0.0.1")
	}
	if n := hscans(s) - before; n != 0 {
		t.Errorf("300 hosts cost %d reads of policies that do not exist", n)
	}
}

// A frontend whose name has a port (planb) is looked up as before.
func TestPolicy_NameWithAPort(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	r.set("a.example:8080", "a", "http://10.0.0.1")
	r.setHash("route:*", map[string]string{"hsts": "10"})
	c := start(t, Options{Driver: []string{r.driver()}})
	for range 3 {
		route, err := c.LookupExact([]byte("a.example:8080"), testClient)
		if err != nil || c.Policy(&route).HSTS != "" {
			t.Errorf("got %v, %v", c.Policy(&route), err)
		}
	}
	before := c.m.misses.Get()
	if _, err := c.LookupExact([]byte("a.example:8080"), testClient); err != nil || c.m.misses.Get() != before {
		t.Errorf("a known name was a miss: %v", err)
	}
}

// A write through a connection without pushes: the index finds a name at its next walk.
func TestPolicy_UnannouncedNameIsFound(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := &redisRoutes{s}
	r.set("a.example", "a", "http://10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}, MaxAge: 200 * time.Millisecond})
	wantPolicy(t, c, "a.example", "none")
	conn := s.Connect()
	for _, command := range [][]string{
		{"SELECT", "1"},
		{"RPUSH", "frontend:a.example", "a", "http://10.0.0.1"},
		{"HSET", "route:other.example", "hsts", "1"},
	} {
		if _, err := conn.Do(command...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Do("HSET", "route:a.example", "hsts", "10"); err != nil {
		t.Fatal(err)
	}
	// Writes to another database are pushed, the swap is not.
	if _, err := conn.Do("SWAPDB", "0", "1"); err != nil {
		t.Fatal(err)
	}
	awaitPolicy(t, c, "a.example", "hsts max-age=10")
}

func TestParseHSTS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"off": "", "0": "max-age=0", "31536000": "max-age=31536000",
		"31536000; includeSubDomains":          "max-age=31536000; includeSubDomains",
		"max-age=5;includesubdomains, preload": "max-age=5; includeSubDomains; preload",
		"5 preload includeSubDomains":          "error",
		"5 preload":                            "error",
		"-1":                                   "error",
		"99999999999":                          "error",
		"5; always":                            "error",
		";":                                    "error",
		"includeSubDomains":                    "error",
		"5; includeSubDomains; includeSubDomains": "error",
	} {
		got, err := parseHSTS(text)
		if err != nil {
			got = "error"
		}
		if got != want && !(text == "5 preload includeSubDomains" && got == "max-age=5; includeSubDomains; preload") {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Each row of the table stands in the documentation, as the code has it.
func TestPolicyKeys_Documented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/routes.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, "|") == 4 {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for i, k := range PolicyKeys() {
		want := fmt.Sprintf("| `%s` | %s | %s |", k.Name, k.Values, k.Doc)
		if i >= len(rows) || rows[i] != want {
			t.Errorf("docs/routes.md lacks the row\n%s", want)
		}
	}
	if len(rows) != len(PolicyKeys()) {
		t.Errorf("docs/routes.md has %d rows, the table %d", len(rows), len(PolicyKeys()))
	}
}

// The policy of all hosts changes, with and without the store.
func TestPolicy_OfAllHostsCanChange(t *testing.T) {
	t.Parallel()
	r := &redisRoutes{redistest.Start(t)}
	r.set("a.example", "a", "http://10.0.0.1")
	r.set("*.pool.example", "pool", "http://10.0.0.1")
	r.setHash("route:*.pool.example", map[string]string{"canonicalHost": "www.pool.example"})
	c := start(t, Options{Driver: []string{r.driver()}})
	set := func(fields map[string]string) {
		t.Helper()
		if err := c.SetPolicy(fields); err != nil {
			t.Fatal(err)
		}
	}
	wantPolicy(t, c, "a.example", "none")
	wantPolicy(t, c, "x.pool.example", "canonical www.pool.example")
	set(map[string]string{"redirectHttps": "true"})
	wantPolicy(t, c, "a.example", "redirect 308")
	wantPolicy(t, c, "x.pool.example", "redirect 308, canonical www.pool.example")
	if err := c.SetPolicy(map[string]string{"hsts": "soon"}); err == nil {
		t.Error("a policy that cannot be parsed was taken")
	}
	r.Kill()
	eventually(t, "the watch is down", func() bool { return c.epoch.Load()&1 == 0 })
	set(map[string]string{"hsts": "10"})
	wantPolicy(t, c, "a.example", "hsts max-age=10")
	wantPolicy(t, c, "x.pool.example", "hsts max-age=10, canonical www.pool.example")
	set(nil)
	wantPolicy(t, c, "a.example", "none")
	wantPolicy(t, c, "x.pool.example", "canonical www.pool.example")
}
