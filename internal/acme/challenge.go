package acme

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	protocol "golang.org/x/crypto/acme"
)

// Protocol is what clients negotiate who validate a TLS-ALPN-01 challenge (RFC 8737 §6.2).
const Protocol = protocol.ALPNProto

// challengeTTL bounds how long an answer stays in the store if nobody withdraws it.
const challengeTTL = 10 * time.Minute

// answers are those that this process has published itself, by key: they hold while the store is
// away, and whoever floods it with questions does not hide them.
type answers struct{ byKey sync.Map }

// publish puts the answer to a challenge where every edge finds it, until withdraw is called.
func (i *Issuer) publish(
	ctx context.Context, client *protocol.Client, name string, c *protocol.Challenge,
) (withdraw func(), err error) {
	key, text := "", ""
	switch {
	case !isToken(c.Token):
		return nil, errors.New("the authority's token is no token")
	case c.Type == HTTP01:
		key = httpKey + c.Token
		if text, err = client.HTTP01ChallengeResponse(c.Token); err == nil {
			text = name + " " + text
		}
	default:
		key = alpnKey + name
		text, err = alpnAnswer(client, c.Token, name)
	}
	if err != nil {
		return nil, err
	}
	putCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := i.o.Store.Put(putCtx, key, text, challengeTTL); err != nil {
		return nil, fmt.Errorf("%w: publish challenge: %w", reasonStore, err)
	}
	i.own.byKey.Store(key, text)
	return func() {
		i.own.byKey.Delete(key)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		_ = i.o.Store.Delete(ctx, key) // it expires
	}, nil
}

// alpnAnswer makes the certificate of a challenge and its key, in one PEM text. The key is good for
// nothing else.
func alpnAnswer(client *protocol.Client, token, name string) (string, error) {
	cert, err := client.TLSALPN01ChallengeCert(token, name)
	if err != nil {
		return "", err
	}
	key, err := encodeKey(cert.PrivateKey)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})) + key, nil
}

// answer finds what some edge has published.
func (i *Issuer) answer(key string, client netip.Addr) (string, bool) {
	if text, ok := i.own.byKey.Load(key); ok {
		return text.(string), true
	}
	text, ok, err := i.o.Store.Challenge(key, client)
	if err != nil {
		i.tell("challenge", "challenge not answered: the store did not do its part", "error", err)
	}
	return text, ok && err == nil
}

// HTTPChallenge returns the answer to an HTTP-01 challenge, nil if no edge has published one for this
// host and token. client is the peer's address.
func (i *Issuer) HTTPChallenge(host, token []byte, client netip.Addr) []byte {
	if !isToken(string(token)) || !eligible(string(host)) {
		return nil
	}
	text, ok := i.answer(httpKey+string(token), client)
	if !ok {
		return nil
	}
	name, authorization, _ := strings.Cut(text, " ")
	if name != string(host) {
		return nil
	}
	i.m.answered[HTTP01].Inc()
	return []byte(authorization)
}

// TLSChallenge returns the certificate that answers a TLS-ALPN-01 challenge for a name (in lower
// case, without a final dot), nil if no edge has published one. client is the peer's address.
func (i *Issuer) TLSChallenge(name string, client netip.Addr) *tls.Certificate {
	if !eligible(name) {
		return nil
	}
	text, ok := i.answer(alpnKey+name, client)
	if !ok {
		return nil
	}
	cert, err := tls.X509KeyPair([]byte(text), []byte(text))
	if err != nil {
		return nil
	}
	i.m.answered[TLSALPN01].Inc()
	return &cert
}
