package main

import (
	"crypto/tls"
	"os/exec"
	"strings"
	"testing"

	"sluice/internal/certtest"
	"sluice/internal/redistest"
)

// A listener without a certificate serves the names that have one, and refuses others cleanly.
func TestProcess_HTTPSWithoutACertificateOfTheListener(t *testing.T) {
	t.Parallel()
	s, ca := redistest.Start(t), certtest.New(t)
	own := ca.Issue(t, "www.example.com")
	s.Do("HSET", "tls:www.example.com", "certificate", own.Certificate, "key", own.Key)
	e := &edgeWithTLS{ca: ca, address: "127.0.0.1:" + port(t)}
	e.process = launch(t, "--server-access-log=none", "--https-bind="+e.address, "--driver="+s.URL())
	e.awaitSerial("www.example.com", own.Serial)
	counted := func() int {
		n, ok := e.metric("sluice_tls_unrecognized_names_total")
		if !ok {
			t.Error("the metric is missing")
		}
		return int(n)
	}
	const refused = 3
	before := counted() // The first handshakes may have come before the store was known.
	for _, name := range []string{"other.example.com", ""} {
		if got := e.serial(name); !strings.Contains(got, "unrecognized name") {
			t.Errorf("a client of %q got %q", name, got)
		}
	}
	out, err := exec.Command("openssl", "s_client", "-connect", e.address, "-noservername", "-tls1_2").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "alert number 112") { // RFC 6066 §9
		t.Errorf("openssl without a name: %v: %s", err, out)
	}
	conn, err := tls.Dial("tcp", e.address, &tls.Config{ServerName: "www.example.com", RootCAs: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if n := strings.Count(e.log.String(), "tls handshake refused"); n < 1 || n > 2 {
		t.Errorf("%d lines in the log, want one in ten seconds:\n%s", n, e.log.String())
	}
	if got := counted() - before; got != refused {
		t.Errorf("the metric counts %d, want %d", got, refused)
	}
	if !strings.Contains(e.log.String(), "has no certificate: clients that ask for no name") {
		t.Error("the start does not say what the listener lacks")
	}
}
