package certs

import (
	"bytes"
	"testing"

	"sluice/internal/certtest"
)

// What many certificates were signed by is in memory once.
func TestParse_SharesIssuers(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	var issuers [][]byte
	for range 2 {
		p := ca.Issue(t, "www.example.com")
		cert, err := Parse([]byte(p.Certificate+ca.PEM()), []byte(p.Key))
		if err != nil {
			t.Fatal(err)
		}
		chain, key, err := DER(cert)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Restore([][]byte{bytes.Clone(chain[0]), bytes.Clone(chain[1])}, key)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Leaf.Equal(cert.Leaf) || len(cert.Certificate) != 2 {
			t.Errorf("a chain of %d came back as that of %s", len(again.Certificate), again.Leaf.Subject)
		}
		issuers = append(issuers, cert.Certificate[1], again.Certificate[1])
	}
	for _, der := range issuers {
		if &der[0] != &issuers[0][0] {
			t.Error("an issuer is in memory twice")
		}
	}
	if _, err := Restore([][]byte{issuers[0]}, []byte("no key")); err == nil {
		t.Error("something that is no key was restored")
	}
}
