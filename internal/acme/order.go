package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	protocol "golang.org/x/crypto/acme"
)

// issue obtains a certificate for a name that this process has locked, and puts it where all edges
// find it. old tells that it replaces one of ours.
func (i *Issuer) issue(ctx context.Context, f *flight, old bool) (*tls.Certificate, error) {
	begin := time.Now()
	client, err := i.connect(ctx)
	if err != nil {
		return nil, i.fail(ctx, f, "", err)
	}
	chain, key, kind, err := i.orderByAny(ctx, client, f, old)
	if isAccountUnknown(err) {
		i.forgetAccount(ctx, client)
		if client, err = i.connect(ctx); err == nil {
			chain, key, kind, err = i.orderByAny(ctx, client, f, old)
		}
	}
	if err != nil {
		return nil, i.fail(ctx, f, kind, err)
	}
	p, err := newIssued(f.name, chain, key)
	if err != nil {
		return nil, i.fail(ctx, f, kind, err)
	}
	p.kind, p.renewal, p.begin = kind, old, begin
	return i.keep(ctx, f, p)
}

// orderByAny tries one kind of challenge after another.
func (i *Issuer) orderByAny(
	ctx context.Context, client *protocol.Client, f *flight, old bool,
) (chain, key, kind string, err error) {
	for _, kind = range i.o.Challenges {
		if err := i.admit(ctx, f, old); err != nil {
			return "", "", kind, err
		}
		if chain, key, err = i.order(ctx, client, f.name, kind); !isChallengeError(err) {
			break
		}
	}
	return chain, key, kind, err
}

// isAccountUnknown tells whether the authority has forgotten the account.
func isAccountUnknown(err error) bool {
	p := problemOf(err)
	return p != nil && problemType(p) == "accountDoesNotExist"
}

// keep puts a certificate into the store and into the schedule, for a name that this process has
// locked.
func (i *Issuer) keep(ctx context.Context, f *flight, p *issued) (*tls.Certificate, error) {
	if ctx.Err() != nil {
		return nil, i.keepLater(ctx, f, p, fmt.Errorf("the lock was lost: %w", ctx.Err()))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*storeTimeout)
	defer cancel()
	switch written, err := i.o.Store.PutCertificate(ctx, f.name, p.chain, p.key); {
	case err != nil:
		return nil, i.keepLater(ctx, f, p, fmt.Errorf("write certificate: %w", err))
	case !written:
		i.log.Info("certificate not stored: somebody has put one there meanwhile", "host", f.name)
		return nil, errHeld
	}
	renewal, expiry := renewalTime(f.name, p.cert.Leaf), p.cert.Leaf.NotAfter
	err := i.o.Store.Schedule(ctx, f.name, renewal, expiry)
	if err == nil {
		err = i.o.Store.Delete(ctx, failedKey+f.name)
	}
	if err != nil {
		// A handshake notices when it is due.
		i.tell("schedule", "certificate stored, but not noted for its renewal", "host", f.name, "error", err)
	}
	i.noteScheduled()
	text, counter := "certificate issued", i.m.issued
	if p.renewal {
		text, counter = "certificate renewed", i.m.renewed
	}
	counter.Inc()
	i.log.Info(text, "host", f.name, "challenge", p.kind, "expires", expiry.UTC().Format(time.RFC3339),
		"renewal", renewal.UTC().Format(time.RFC3339), "took", time.Since(p.begin).Round(time.Millisecond).String())
	return p.cert, nil
}

// admit counts an order under the fleet's limits. A renewal counts as an order, but not under its
// domain: what is served already must not end because other names came.
func (i *Issuer) admit(ctx context.Context, f *flight, renewal bool) error {
	domain := registeredDomain(f.name)
	id := rand.Text()
	var counted []string
	for _, l := range []struct {
		key, limit string
		max        int
		window     time.Duration
	}{
		{perDomainKey + domain, limitDomain, i.o.MaxPerDomain, i.o.DomainPeriod},
		{ordersKey, limitOrders, i.o.MaxPerHour, time.Hour},
	} {
		if l.max <= 0 || renewal && l.limit == limitDomain {
			continue
		}
		wait, err := i.admitOne(ctx, l.key, id, l.max, l.window)
		if err != nil {
			return i.storeError(f, err)
		}
		counted = append(counted, l.key)
		if wait > 0 {
			i.retract(ctx, counted, id)
			f.wait = wait
			i.m.limited[l.limit].Inc()
			i.tell(l.key, "certificate not ordered: too many orders", "host", f.name, "domain", domain, "limit", l.limit,
				"allowed", l.max, "within", l.window.String(), "retry_in", wait.Round(time.Second).String(),
				"advice", "put a wildcard certificate into tls:*.<domain>, or raise acme.maxOrdersPerDomain or "+
					"acme.maxOrdersPerHour if the authority allows more")
			return errLimited
		}
	}
	return nil
}

func (i *Issuer) admitOne(ctx context.Context, key, id string, limit int, window time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return i.o.Store.Admit(ctx, key, id, limit, window)
}

// retract takes back what was counted of an order that is not made.
func (i *Issuer) retract(ctx context.Context, keys []string, id string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for _, key := range keys {
		_ = i.o.Store.Retract(ctx, key, id) // one too many is counted until the window has passed
	}
}

// isChallengeError tells whether another kind of challenge may succeed.
func isChallengeError(err error) bool {
	var authorization *protocol.AuthorizationError
	return errors.As(err, &authorization) || errors.Is(err, errNotOffered)
}

// errNotOffered is an authority that does not ask for the kind of challenge.
var errNotOffered = errors.New("the authority offers no challenge of this kind")

// order does one order by one kind of challenge and returns the chain and its key in PEM.
func (i *Issuer) order(ctx context.Context, client *protocol.Client, name, kind string) (chain, key string, err error) {
	var options []protocol.OrderOption
	if i.o.Profile != "" {
		options = append(options, protocol.WithOrderIssuanceProfile(protocol.ProfileName(i.o.Profile)))
	}
	order, err := client.AuthorizeOrder(ctx, protocol.DomainIDs(name), options...)
	if err != nil {
		return "", "", err
	}
	for _, url := range order.AuthzURLs {
		if err := i.authorize(ctx, client, name, url, kind); err != nil {
			return "", "", err
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return "", "", err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, private)
	if err != nil {
		return "", "", err
	}
	ders, _, err := client.CreateCertFromOrder(ctx, order, request, true)
	if err != nil {
		return "", "", err
	}
	var text strings.Builder
	for _, der := range ders {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	key, err = encodeKey(private)
	return text.String(), key, err
}

// authorize proves that the name is served here.
func (i *Issuer) authorize(ctx context.Context, client *protocol.Client, name, url, kind string) error {
	authorization, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	if authorization.Status == protocol.StatusValid {
		return nil // It remembers an earlier proof.
	}
	at := slices.IndexFunc(authorization.Challenges, func(c *protocol.Challenge) bool { return c.Type == kind })
	if at < 0 {
		return fmt.Errorf("%w (%s)", errNotOffered, kind)
	}
	challenge := authorization.Challenges[at]
	withdraw, err := i.publish(ctx, client, name, challenge)
	if err != nil {
		return err
	}
	defer withdraw()
	if _, err := client.Accept(ctx, challenge); err != nil {
		return err
	}
	_, err = client.WaitAuthorization(ctx, url)
	return err
}
