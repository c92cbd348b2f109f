package acme

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxUnwritten bounds the certificates that wait to be written. Limit: while there are so many,
// nothing more is ordered here; those that are being ordered may still come.
const maxUnwritten = 256

// issued is a certificate that an authority has issued, with what is to be written and told of it.
type issued struct {
	cert       *tls.Certificate
	chain, key string // in PEM
	until      time.Time
	kind       string // of the challenge
	renewal    bool
	begin      time.Time // of the order
}

// newIssued checks that what an authority sent is a certificate for a name.
func newIssued(name, chain, key string) (*issued, error) {
	cert, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err == nil {
		err = cert.Leaf.VerifyHostname(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", reasonUnusable, err)
	}
	return &issued{cert: &cert, chain: chain, key: key, until: renewalTime(name, cert.Leaf)}, nil
}

// unwritten holds by their names the certificates that were issued and that the store has not taken.
// They serve this process, and only to write them is left to do: an order for each attempt would use
// up within a minute what an authority allows a name in a week. They end when they would be renewed.
type unwritten struct {
	mu    sync.Mutex
	pairs map[string]*issued
}

// get returns the one for a name, nil if there is none.
func (u *unwritten) get(name string, now time.Time) *issued {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pairs[name]
	if p != nil && !now.Before(p.until) {
		delete(u.pairs, name)
		return nil
	}
	return p
}

// certificate is get for a handshake.
func (u *unwritten) certificate(name string, now time.Time) *tls.Certificate {
	if p := u.get(name, now); p != nil {
		return p.cert
	}
	return nil
}

func (u *unwritten) put(name string, p *issued) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pairs == nil {
		u.pairs = map[string]*issued{}
	}
	u.pairs[name] = p
}

func (u *unwritten) forget(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pairs, name)
}

func (u *unwritten) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.pairs)
}

// names returns all names, in any order.
func (u *unwritten) names() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.pairs))
}

// keepLater keeps a certificate that could not be written, and has the other edges leave its name
// alone, since they would have to order it anew.
func (i *Issuer) keepLater(ctx context.Context, f *flight, p *issued, cause error) error {
	err := fmt.Errorf("%w: %w", reasonStore, cause)
	if i.ctx.Err() != nil {
		return err
	}
	i.unwritten.put(f.name, p)
	now := time.Now()
	if was, _ := i.readFailure(context.WithoutCancel(ctx), failedKey+f.name); was == nil || was.left(now) == 0 {
		kept, wait := was.next(reasonStore, problemText(err, nil))
		kept.Until = now.Add(wait).Unix()
		i.writeFailure(ctx, failedKey+f.name, kept, wait+keepFailure)
	}
	i.m.failed[reasonStore].Inc()
	f.wait = rememberRefused
	i.tell("unwritten", "certificate issued, but not stored: it serves this edge alone until it can be written",
		"host", f.name, "error", err, "retry_in", rememberRefused.String(),
		"advice", "the driver's master must be writable, and its user have the rights of docs/acme.md")
	return err
}

// writeLater begins to write a batch of what waits for it, though nobody may ask for it here: other
// edges lack it.
func (i *Issuer) writeLater() {
	now, begun := time.Now(), 0
	for _, name := range i.unwritten.names() {
		if begun < scheduleBatch && !i.refused.holds(name, now) {
			i.launch(name, netip.Addr{}, false)
			begun++
		}
	}
}
