package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"sync/atomic"
	"testing"
)

func pairOf(a *authority) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key, Leaf: a.cert}
}

// Whatever is there and valid comes first, and no question outside of a handshake obtains anything.
func TestOnDemand_OnlyInHandshakesWithoutAValidCertificate(t *testing.T) {
	t.Parallel()
	own := issue(t, "own.example.com", nil, nil)
	stored := issue(t, "stored.example.com", nil, nil)
	expired := issue(t, "expired.example.com", nil, func(c *x509.Certificate) { c.NotAfter = c.NotBefore })
	fresh := map[string]*authority{
		"expired.example.com": issue(t, "expired.example.com", nil, nil), "new.example.com": issue(t, "new.example.com", nil, nil),
	}
	var asked atomic.Int32
	b := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(own)), Key: write(t, "key.pem", keyBlock(t, own.key)),
		ByName: func(name string, _ netip.Addr) *tls.Certificate {
			switch name {
			case "stored.example.com":
				return pairOf(stored)
			case "expired.example.com":
				return pairOf(expired)
			}
			return nil
		},
		OnDemand: func(name string, _ netip.Addr) *tls.Certificate {
			asked.Add(1)
			if a := fresh[name]; a != nil {
				return pairOf(a)
			}
			return nil
		},
	})
	config := b.TLSConfig()
	for _, tt := range []struct {
		name  string
		want  *authority
		asked int32
	}{
		{"own.example.com", own, 0},
		{"stored.example.com", stored, 0},
		{"expired.example.com", fresh["expired.example.com"], 1},
		{"NEW.example.com", fresh["new.example.com"], 1},
	} {
		before := asked.Load()
		if _, err := shake(t, config, trusting(tt.want, tt.name)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if n := asked.Load() - before; n != tt.asked {
			t.Errorf("%s: asked %d times, want %d", tt.name, n, tt.asked)
		}
	}
	client := trusting(own, "refused.example.com")
	client.InsecureSkipVerify = true
	if state, err := shake(t, config, client); err != nil || !state.PeerCertificates[0].Equal(own.cert) {
		t.Errorf("a name that gets none: %v", err)
	}
	before := asked.Load()
	b.Certificate("new.example.com", netip.Addr{})
	cert, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: "new.example.com"})
	if err != nil || !cert.Leaf.Equal(own.cert) {
		t.Errorf("a question outside of a handshake: %v", err)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("a question outside of a handshake asked %d times", n)
	}
}

func TestChallenge_ForWhoNegotiatesItAlone(t *testing.T) {
	t.Parallel()
	own, proof := issue(t, "www.example.com", nil, nil), issue(t, "www.example.com", nil, nil)
	config := load(t, Options{
		Cert: write(t, "cert.pem", certBlock(own)), Key: write(t, "key.pem", keyBlock(t, own.key)),
		Challenge: func(name string, _ netip.Addr) *tls.Certificate {
			if name == "www.example.com" {
				return pairOf(proof)
			}
			return nil
		},
	}).TLSConfig()
	for _, tt := range []struct {
		name   string
		protos []string
		want   *authority // nil: the handshake fails
		proto  string
	}{
		{"www.example.com", []string{ChallengeProtocol}, proof, ChallengeProtocol},
		{"WWW.example.com", []string{ChallengeProtocol}, proof, ChallengeProtocol},
		{"www.example.com", []string{"http/1.1", ChallengeProtocol}, own, "http/1.1"},
		{"www.example.com", nil, own, ""},
		{"other.example.com", []string{ChallengeProtocol}, nil, ""},
		{"", []string{ChallengeProtocol}, nil, ""},
	} {
		client := trusting(own, tt.name)
		client.NextProtos, client.InsecureSkipVerify = tt.protos, true
		state, err := shake(t, config, client)
		switch {
		case tt.want == nil:
			if err == nil {
				t.Errorf("%q %v: the handshake succeeded", tt.name, tt.protos)
			}
		case err != nil || state.NegotiatedProtocol != tt.proto || !state.PeerCertificates[0].Equal(tt.want.cert):
			t.Errorf("%q %v: protocol %q, %v", tt.name, tt.protos, state.NegotiatedProtocol, err)
		}
	}
}
