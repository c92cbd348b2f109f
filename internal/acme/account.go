package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	protocol "golang.org/x/crypto/acme"
)

const (
	// requestTimeout bounds one request to the authority.
	requestTimeout = 30 * time.Second
	// maxRetries bounds the repetitions of one that it does not answer well.
	maxRetries = 4
	// maxRetryAfter bounds the wait before one; if the authority asks for more, the attempt ends.
	maxRetryAfter = 10 * time.Second
)

// account is the fleet's account at the authority, as this process knows it.
type account struct {
	mu     sync.Mutex // held while it is looked up or made: whoever needs it waits
	client *protocol.Client
}

// storedAccount is what the store keeps of it.
type storedAccount struct {
	Directory string `json:"directory"`
	Email     string `json:"email,omitempty"`
	URL       string `json:"url,omitempty"` // empty until the authority knows it
	Key       string `json:"key"`           // PEM, PKCS #8
}

// connect returns a client that acts for the account, which it makes if the fleet has none.
func (i *Issuer) connect(ctx context.Context) (*protocol.Client, error) {
	i.account.mu.Lock()
	defer i.account.mu.Unlock()
	if i.account.client != nil {
		return i.account.client, nil
	}
	key := accountKey + i.id
	stored, err := i.readAccount(ctx, key)
	if err != nil {
		return nil, err
	}
	if stored == nil || stored.URL == "" {
		if stored, err = i.makeAccount(ctx, key); err != nil {
			return nil, err
		}
	}
	client, err := i.clientFor(stored)
	if err == nil {
		i.account.client = client
	}
	return client, err
}

// forgetAccount gives up an account that the authority does not know, unless another edge has made
// the next one already.
func (i *Issuer) forgetAccount(ctx context.Context, client *protocol.Client) {
	i.account.mu.Lock()
	defer i.account.mu.Unlock()
	if i.account.client == client {
		i.account.client = nil
	}
	stored, err := i.readAccount(ctx, accountKey+i.id)
	if err != nil || stored == nil || stored.URL != string(client.KID) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = i.o.Store.Delete(ctx, accountKey+i.id) // it fails again otherwise
}

func (i *Issuer) readAccount(ctx context.Context, key string) (*storedAccount, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	text, ok, err := i.o.Store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: read account: %w", reasonStore, err)
	case !ok:
		return nil, nil //nolint:nilnil // there is none
	}
	a := new(storedAccount)
	if err := json.Unmarshal([]byte(text), a); err != nil {
		return nil, fmt.Errorf("%w: %s is damaged; remove it, so that a new account is made", reasonStore, key)
	}
	return a, nil
}

func (i *Issuer) writeAccount(ctx context.Context, key string, a *storedAccount) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := i.o.Store.Put(ctx, key, string(text), 0); err != nil {
		return fmt.Errorf("%w: write account: %w", reasonStore, err)
	}
	return nil
}

// makeAccount registers the fleet, one edge at a time. The key is kept before the authority hears of
// it, so that an account is never lost.
func (i *Issuer) makeAccount(ctx context.Context, key string) (*storedAccount, error) {
	ctx, unlock, err := i.lockPatiently(ctx, lockKey+"account:"+i.id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := i.readAccount(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case a != nil && a.URL != "":
		return a, nil
	case a == nil:
		a = &storedAccount{Directory: i.o.Directory, Email: i.o.Email}
		if a.Key, err = newKey(); err != nil {
			return nil, err
		}
		if err := i.writeAccount(ctx, key, a); err != nil {
			return nil, err
		}
	}
	client, err := i.clientFor(a)
	if err != nil {
		return nil, err
	}
	if err := i.register(ctx, client); err != nil {
		return nil, err
	}
	a.URL = string(client.KID)
	i.log.Info("account made at the certificate authority", "directory", i.o.Directory, "account", a.URL)
	return a, i.writeAccount(ctx, key, a)
}

// lockPatiently waits for a lock that another edge has.
func (i *Issuer) lockPatiently(ctx context.Context, key string) (context.Context, func(), error) {
	for {
		locked, unlock, err := i.lock(ctx, key)
		switch {
		case err == nil:
			return locked, unlock, nil
		case !errors.Is(err, errElsewhere):
			return nil, nil, fmt.Errorf("%w: %w", reasonStore, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(elsewherePause):
		}
	}
}

func (i *Issuer) register(ctx context.Context, client *protocol.Client) error {
	a := &protocol.Account{}
	if i.o.Email != "" {
		a.Contact = []string{"mailto:" + i.o.Email}
	}
	if i.o.EABKeyID != "" {
		mac, err := i.o.eabKey()
		if err != nil {
			return err
		}
		a.ExternalAccountBinding = &protocol.ExternalAccountBinding{KID: i.o.EABKeyID, Key: mac}
	}
	_, err := client.Register(ctx, a, protocol.AcceptTOS)
	if errors.Is(err, protocol.ErrAccountAlreadyExists) {
		return nil
	}
	return err
}

// newKey makes a key and returns it in PEM.
func newKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	return encodeKey(key)
}

func encodeKey(key any) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

func (i *Issuer) clientFor(a *storedAccount) (*protocol.Client, error) {
	damaged := fmt.Errorf("%w: the account's key is damaged; remove %s, so that a new account is made",
		reasonStore, accountKey+i.id)
	block, _ := pem.Decode([]byte(a.Key))
	if block == nil {
		return nil, damaged
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, damaged
	}
	return &protocol.Client{
		Key: signer, KID: protocol.KeyID(a.URL), DirectoryURL: i.o.Directory, UserAgent: i.o.UserAgent,
		RetryBackoff: retryIn,
		HTTPClient: &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				Proxy:             http.ProxyFromEnvironment,
				TLSClientConfig:   &tls.Config{RootCAs: i.o.Roots, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: true,
				IdleConnTimeout:   requestTimeout,
			},
		},
	}, nil
}

// retryIn returns when a request is repeated; 0 gives up. A stale nonce is repeated at once.
func retryIn(n int, _ *http.Request, answer *http.Response) time.Duration {
	if n > maxRetries {
		return 0
	}
	if answer.StatusCode == http.StatusBadRequest {
		return time.Duration(n) * 50 * time.Millisecond
	}
	if answer.StatusCode == http.StatusTooManyRequests {
		return 0 // Its Retry-After holds for the name, not for a handshake that waits.
	}
	return min(time.Duration(1<<n)*250*time.Millisecond, maxRetryAfter)
}
