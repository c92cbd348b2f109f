// Package acmetest runs a certificate authority for a test: pebble, as a library, with a DNS server
// of its own beside it. What it is asked for it validates in earnest, by connections to the addresses
// that the test gives names. It can stop answering, come back without a memory, and refuse names; and
// it tells what was ordered.
//
// An Authority ends with the test that started it. It listens on loopback only and imports nothing of
// sluice. Tests call it, never the program.
package acmetest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Options says how an authority works.
type Options struct {
	// HTTPPort and TLSPort are where it validates, instead of 80 and 443.
	HTTPPort, TLSPort int
	// Validity is the life of its certificates; 0 means 90 days.
	Validity time.Duration
	// EABKeyID and EABKey (base64url), if set, are what an account must be bound to.
	EABKeyID, EABKey string
}

// Authority is a running one.
type Authority struct {
	o      Options
	server *httptest.Server
	log    *log.Logger
	dns    string

	mu        sync.Mutex
	handler   http.Handler // nil while it is away
	ca        *ca.CAImpl
	db        *db.MemoryStore
	addresses map[string]string
	ordered   []string
	requests  int
	limit     time.Duration
}

// Start runs an authority until the test ends.
func Start(t testing.TB, o Options) *Authority {
	t.Helper()
	// Pebble waits for up to 15 s before it validates, and takes half of all proofs for granted that it
	// has seen before, unless its environment says otherwise.
	for key, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"} {
		if err := os.Setenv(key, value); err != nil { //nolint:usetesting // tests that run side by side want the same
			t.Fatal(err)
		}
	}
	a := &Authority{o: o, log: log.New(io.Discard, "", 0), addresses: map[string]string{}}
	a.serveDNS(t)
	a.Restart(t)
	a.server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	a.server.Config.ErrorLog = a.log
	t.Cleanup(a.server.Close)
	return a
}

// Restart makes the authority answer again, with a new root and without any account, as pebble does
// that was started anew.
func (a *Authority) Restart(t testing.TB) {
	t.Helper()
	store := db.NewMemoryStore()
	if a.o.EABKeyID != "" {
		if err := store.AddExternalAccountKeyByID(a.o.EABKeyID, a.o.EABKey); err != nil {
			t.Fatal(err)
		}
	}
	authority := ca.New(a.log, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: uint64(a.o.Validity / time.Second)},
	})
	validator := va.New(a.log, a.o.HTTPPort, a.o.TLSPort, false, a.dns, store)
	front := wfe.New(a.log, store, validator, authority, []string{"authority.test"}, false, a.o.EABKeyID != "", 1, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler, a.ca, a.db = front.Handler(), authority, store
}

// GoAway makes it answer 503 until Restart.
func (a *Authority) GoAway() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = nil
}

// Limit makes it refuse orders, as one that has had enough until after; 0 ends that.
func (a *Authority) Limit(after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = after
}

// Directory is its URL for clients.
func (a *Authority) Directory() string { return a.server.URL + wfe.DirectoryPath }

// CAFile writes the root that its own server is verified by, and returns the file's name.
func (a *Authority) CAFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authority.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // public
		t.Fatal(err)
	}
	return path
}

// Roots are what its certificates are verified by, at present.
func (a *Authority) Roots() *x509.CertPool {
	a.mu.Lock()
	defer a.mu.Unlock()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.ca.GetRootCert(0).PEM())
	return pool
}

// Resolve gives a name an address; names without one do not exist.
func (a *Authority) Resolve(name, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses[dns.Fqdn(name)] = address
}

// Block makes it refuse a name, and those below it.
func (a *Authority) Block(t testing.TB, name string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.db.AddBlockedDomain(name); err != nil {
		t.Fatal(err)
	}
}

// Ordered returns how many orders there were for a name.
func (a *Authority) Ordered(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, o := range a.ordered {
		if o == name {
			n++
		}
	}
	return n
}

// Requests returns how many requests of any kind it has received.
func (a *Authority) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

func (a *Authority) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	recorder := httptest.NewRecorder()
	a.mu.Lock()
	a.requests++
	handler, limit := a.handler, a.limit
	a.mu.Unlock()
	isOrder := strings.HasSuffix(r.URL.Path, "/order-plz")
	switch {
	case handler == nil:
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	case isOrder && limit > 0:
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", strconv.Itoa(int(limit/time.Second)))
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"type": "urn:ietf:params:acme:error:rateLimited", `+
			`"detail": "too many certificates already issued"}`)
		return
	}
	handler.ServeHTTP(recorder, r)
	if isOrder && recorder.Code == http.StatusCreated {
		a.note(body)
	}
	for name, values := range recorder.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()) // the client has gone
}

// note keeps the names of an order.
func (a *Authority) note(body []byte) {
	var signed struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	if json.Unmarshal(body, &signed) != nil {
		return
	}
	payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil || json.Unmarshal(payload, &order) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range order.Identifiers {
		a.ordered = append(a.ordered, id.Value)
	}
}

// serveDNS answers the authority's questions, by TCP as it asks them.
func (a *Authority) serveDNS(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.dns = listener.Addr().String()
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(a.answerDNS)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe() // ends with the listener
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
}

func (a *Authority) answerDNS(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(q)
	for _, question := range q.Question {
		a.mu.Lock()
		address, ok := a.addresses[strings.ToLower(question.Name)]
		a.mu.Unlock()
		switch {
		case !ok:
			answer.Rcode = dns.RcodeNameError
		case question.Qtype == dns.TypeA:
			answer.Answer = append(answer.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A:   net.ParseIP(address),
			})
		}
	}
	_ = w.WriteMsg(answer) // the authority has gone
}
