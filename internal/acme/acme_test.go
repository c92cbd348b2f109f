package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	protocol "golang.org/x/crypto/acme"
)

func TestEligible(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"www.example.com": true, "xn--mnchen-3ya.example": true, "a.b": true, "1.example": true,
		"localhost": false, "": false, "192.0.2.1": false, "*.example.com": false, "www.example.com.": false,
		"under_score.example": false, "-a.example": false, "a-.example": false, "a..example": false, "WWW.example": false,
		"a.example/../x": false, strings.Repeat("a", 64) + ".example": false, strings.Repeat("a.", 127) + "example": false,
	} {
		if got := eligible(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestRegisteredDomain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.b.example.com": "example.com", "example.com": "example.com", "www.shop.co.uk": "shop.co.uk",
		"me.github.io": "me.github.io", "co.uk": "co.uk", "a.b.private": "b.private",
	} {
		if got := registeredDomain(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestIsToken(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0123456789abcdef": true, "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0": true, "with-dash_and_underline": true,
		"": false, "short": false, "0123456789abcde/": false, "0123456789abcdef*": false, strings.Repeat("a", 129): false,
	} {
		if got := isToken(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// All edges agree on the time, it is in the last third and a bit, and not the same for all names.
func TestRenewalTime(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: begin, NotAfter: begin.AddDate(0, 0, 90)}
	seen := map[time.Time]bool{}
	for i := range 50 {
		name := fmt.Sprintf("h%d.example", i)
		at := renewalTime(name, leaf)
		if at != renewalTime(name, leaf) || at.Before(begin.AddDate(0, 0, 57)) || at.After(begin.AddDate(0, 0, 60)) {
			t.Errorf("%s: %v", name, at)
		}
		seen[at] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 names are renewed at %d times", len(seen))
	}
	renewalTime("a.example", &x509.Certificate{NotBefore: begin, NotAfter: begin}) // no life at all, and no panic
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	problem := func(status int, name, detail string) *protocol.Error {
		return &protocol.Error{StatusCode: status, ProblemType: "urn:ietf:params:acme:error:" + name, Detail: detail}
	}
	challenge := func(p *protocol.Error) error { return &protocol.AuthorizationError{Errors: []error{p}} }
	unsent := &url.Error{Op: "Post", URL: "https://ca.example/dir", Err: errors.New("connection refused")}
	for name, tt := range map[string]struct {
		err    error
		kind   string
		want   reason
		advice string
	}{
		"dns":          {challenge(problem(400, "dns", "NXDOMAIN")), HTTP01, reasonChallenge, "A and AAAA"},
		"caa":          {challenge(problem(403, "caa", "forbidden")), HTTP01, reasonChallenge, "CAA"},
		"port 80":      {challenge(problem(400, "connection", "refused")), HTTP01, reasonChallenge, "port 80"},
		"port 443":     {challenge(problem(400, "unauthorized", "wrong")), TLSALPN01, reasonChallenge, "port 443"},
		"blocked":      {problem(400, "rejectedIdentifier", "no"), "", reasonRefused, "tls:<name>"},
		"other":        {problem(403, "somethingNew", "no"), "", reasonRefused, "words"},
		"order":        {&protocol.OrderError{Status: "invalid", Problem: problem(403, "caa", "no")}, "", reasonRefused, "CAA"},
		"limit":        {problem(429, "rateLimited", "too many"), "", reasonRateLimited, "wait"},
		"eab":          {problem(403, "externalAccountRequired", "no"), "", reasonAccount, "acme.eabKeyId"},
		"ill":          {problem(500, "serverInternal", "oops"), "", reasonUnreachable, "out of order"},
		"no problem":   {problem(503, "", ""), "", reasonUnreachable, "out of order"},
		"unsent":       {fmt.Errorf("x: %w", unsent), "", reasonUnreachable, "acme.ca"},
		"in a request": {&url.Error{Err: context.DeadlineExceeded}, "", reasonUnreachable, "acme.directory"},
		"endless":      {context.DeadlineExceeded, HTTP01, reasonChallenge, "end"},
		"lock lost":    {&url.Error{Err: context.Canceled}, HTTP01, reasonStore, ""},
		"no offer":     {errNotOffered, HTTP01, reasonRefused, "acme.challenges"},
		"unusable":     {fmt.Errorf("%w: no PEM", reasonUnusable), "", reasonUnusable, "acme.directory"},
		"store":        {fmt.Errorf("%w: down", reasonStore), "", reasonStore, ""},
	} {
		why, advice := diagnose(tt.err, problemOf(tt.err), tt.kind)
		if why != tt.want || !strings.Contains(advice, tt.advice) {
			t.Errorf("%s: got %s, %q", name, why, advice)
		}
	}
}

func TestProblemText_IsBoundedAndInTheAuthoritysWords(t *testing.T) {
	t.Parallel()
	p := &protocol.Error{
		ProblemType: "urn:ietf:params:acme:error:dns", Detail: "no such name",
		Subproblems: []protocol.Subproblem{{Detail: strings.Repeat("é", maxProblemBytes)}},
	}
	got := problemText(p, p)
	if !strings.HasPrefix(got, "dns: no such name; é") || len(got) > maxProblemBytes+3 || !strings.HasSuffix(got, "é...") {
		t.Errorf("got %d bytes: %.60q", len(got), got)
	}
	if got := problemText(errors.New("plain"), nil); got != "plain" {
		t.Errorf("got %q", got)
	}
}

func TestRetryAfter_IsHeededWithinBounds(t *testing.T) {
	t.Parallel()
	for after, want := range map[string]time.Duration{
		"": minRateLimit, "5": minRateLimit, "3600": time.Hour, "9999999": maxRateLimit,
	} {
		err := &protocol.Error{
			StatusCode: 429, ProblemType: "urn:ietf:params:acme:error:rateLimited", Header: http.Header{"Retry-After": {after}},
		}
		if got := retryAfter(err); got != want {
			t.Errorf("%q: got %v, want %v", after, got, want)
		}
	}
}

func TestRetryIn_EndsAndLeavesLimitsToTheCaller(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{400: true, 503: true, 429: false} {
		if got := retryIn(1, nil, &http.Response{StatusCode: status}) > 0; got != want {
			t.Errorf("%d: repeated %v, want %v", status, got, want)
		}
		if retryIn(maxRetries+1, nil, &http.Response{StatusCode: status}) > 0 {
			t.Errorf("%d: repeated without end", status)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	var m memory
	now := time.Now()
	m.put("a", now.Add(time.Second))
	if !m.holds("a", now) || m.holds("b", now) || m.holds("a", now.Add(time.Second)) || len(m.until) != 0 {
		t.Error("it holds what it should not, or the reverse")
	}
	m.put("a", now.Add(time.Second))
	m.forget("a")
	if m.holds("a", now) {
		t.Error("it does not forget")
	}
	for i := range maxRemembered + 10 {
		m.put(fmt.Sprint(i), now.Add(time.Second))
	}
	if len(m.until) != maxRemembered {
		t.Errorf("it holds %d names", len(m.until))
	}
}

func TestOptions_Check(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{
			Directory: "https://ca.example/dir", Challenges: []string{HTTP01}, MaxInFlight: 1, MaxQueued: 1,
			Store: struct{ Store }{}, Routed: func(string, netip.Addr) (bool, error) { return true, nil },
		}
	}
	for name, edit := range map[string]func(*Options){
		"directory": func(o *Options) { o.Directory = "http://ca.example" },
		"none":      func(o *Options) { o.Challenges = nil },
		"unknown":   func(o *Options) { o.Challenges = []string{"dns-01"} },
		"room":      func(o *Options) { o.MaxInFlight = 0 },
		"half":      func(o *Options) { o.EABKeyID = "kid" },
		"no base64": func(o *Options) { o.EABKeyID, o.EABKey = "kid", "hush hush" },
		"routes":    func(o *Options) { o.Routed = nil },
	} {
		o := good()
		edit(&o)
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := New(good()); err != nil {
		t.Error(err)
	}
}
