package cache

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/certs"
)

// certificate is one of the store: parsed, or as a snapshot brought it until somebody asks. So a start
// with a hundred thousand of them does not wait for all to be parsed, nor hold what that makes of them.
type certificate struct {
	saved  atomic.Pointer[savedCertificate] // nil once parsed
	once   sync.Once
	parsed *tls.Certificate
	err    error
}

// savedCertificate is a certificate in the form of a snapshot. It is immutable.
type savedCertificate struct {
	name    string
	leaf    []byte   // DER
	issuers [][]byte // DER; shared by the certificates of one snapshot
	key     []byte   // PKCS #8
}

// get returns the certificate, or why it cannot be used.
func (k *certificate) get() (*tls.Certificate, error) {
	k.once.Do(func() {
		s := k.saved.Load()
		if s == nil {
			return
		}
		chain := append([][]byte{s.leaf}, s.issuers...)
		if k.parsed, k.err = certs.Restore(chain, s.key); k.err == nil {
			k.err = certs.Covers(k.parsed, s.name)
		}
		k.saved.Store(nil)
	})
	return k.parsed, k.err
}

// save returns the certificate in the form of a snapshot; ok is false if it has none.
func (k *certificate) save() (form *savedCertificate, ok bool) {
	if s := k.saved.Load(); s != nil {
		return s, true
	}
	cert, err := k.get()
	if err != nil {
		return nil, false
	}
	chain, key, err := certs.DER(cert)
	if err != nil {
		return nil, false
	}
	return &savedCertificate{leaf: chain[0], issuers: chain[1:], key: key}, true
}

// packFields writes the fields of a hash as one string, in the form of a snapshot: the number of
// fields, then names and texts, in the order of the names.
func packFields(fields map[string]string) string {
	b := binary.AppendUvarint(nil, uint64(len(fields)))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b = appendText(appendText(b, name), fields[name])
	}
	return string(b)
}

// unpackFields returns what packFields was given. Of what it did not write, it returns what it can.
func unpackFields(packed string) map[string]string {
	p := recordParser{data: []byte(packed)}
	fields, _ := p.fields()
	return fields
}

// fields reads what packFields wrote, and returns its form as well.
func (p *recordParser) fields() (fields map[string]string, packed []byte) {
	begin := p.data
	fields = map[string]string{}
	for n := p.number(); n > 0 && !p.failed; n-- {
		name, text := p.bytes(), p.bytes()
		if !p.failed {
			fields[string(name)] = string(text)
		}
	}
	return fields, begin[:len(begin)-len(p.data)]
}

// namedHash is a hash with what a snapshot says of it.
type namedHash[T any] struct {
	name    string
	content *T
	until   int64
}

// batches calls each with the hashes that can be used, a batch at a time, until it returns an error.
// Names that come meanwhile may be left out. Cache.mu must not be held.
func (t *hashTable[T]) batches(limit int, each func([]namedHash[T]) error) error {
	batch := make([]namedHash[T], 0, limit)
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	// Go allows a map to change between two steps of a range over it. The lock is held in each step.
	for name, h := range t.present {
		if h.content == nil {
			continue
		}
		if batch = append(batch, namedHash[T]{name, h.content, h.until}); len(batch) < limit {
			continue
		}
		t.c.mu.Unlock()
		err := each(batch)
		t.c.mu.Lock()
		if err != nil {
			return err
		}
		batch = batch[:0]
	}
	t.c.mu.Unlock()
	defer t.c.mu.Lock() // for the one above
	return each(batch)
}

// encodePolicies and encodeCertificates write the hashes of a family; share is as for encode.
func (s *snapshot) encodePolicies(ctx context.Context, w *snapshotWriter, share int) error {
	return s.c.policies.batches(snapshotBatch, func(batch []namedHash[Policy]) error {
		begin := time.Now()
		for _, h := range batch {
			w.buffer = appendText(append(w.buffer, recordPolicy), h.name)
			w.buffer = binary.AppendUvarint(w.buffer, s.c.expiry(h.until))
			w.buffer = append(w.buffer, h.content.packed...)
			w.records++
		}
		return w.flushPaced(ctx, begin, share)
	})
}

func (s *snapshot) encodeCertificates(ctx context.Context, w *snapshotWriter, share int) error {
	issuers := map[string]int{} // by their bytes: few are used by many
	return s.c.certificates.batches(snapshotBatch, func(batch []namedHash[certificate]) error {
		begin := time.Now()
		for _, h := range batch {
			if k, ok := h.content.save(); ok {
				w.addCertificate(h.name, k, s.c.expiry(h.until), issuers)
			}
		}
		return w.flushPaced(ctx, begin, share)
	})
}

// addCertificate appends the record of a certificate, after those of its issuers that the file lacks.
func (w *snapshotWriter) addCertificate(name string, k *savedCertificate, expires uint64, issuers map[string]int) {
	for _, der := range k.issuers {
		if _, ok := issuers[string(der)]; !ok {
			issuers[string(der)] = len(issuers)
			w.buffer = appendBytes(append(w.buffer, recordIssuer), der)
			w.records++
		}
	}
	w.buffer = appendText(append(w.buffer, recordCertificate), name)
	w.buffer = binary.AppendUvarint(w.buffer, expires)
	w.buffer = binary.AppendUvarint(w.buffer, uint64(len(k.issuers)))
	for _, der := range k.issuers {
		w.buffer = binary.AppendUvarint(w.buffer, uint64(issuers[string(der)]))
	}
	w.buffer = appendBytes(appendBytes(w.buffer, k.leaf), k.key)
	w.records++
}

// flushPaced writes what was gathered since begin, and then rests.
func (w *snapshotWriter) flushPaced(ctx context.Context, begin time.Time, share int) error {
	if err := w.flush(); err != nil {
		return err
	}
	rest(ctx, time.Since(begin)*time.Duration(share-1))
	return ctx.Err()
}

// expiry returns a time of c.now as a snapshot has it: unix milliseconds, 0 for never.
func (c *Cache) expiry(at int64) uint64 {
	if at == never {
		return 0
	}
	return uint64(max(c.wallTime(at).UnixMilli(), 0))
}

// restoreHash puts a hash of a snapshot into its table, as outdated, if there is room. mu is held.
func restoreHash[T any](t *hashTable[T], name string, content *T, until int64) bool {
	if _, ok := t.present[name]; ok || len(t.present) >= t.limit {
		return false
	}
	t.present[name] = &hash[T]{content: content, until: until, used: t.c.now()}
	return true
}

// restorePolicy keeps the policy of a record. mu is held.
func (c *Cache) restorePolicy(r *record, until int64) bool {
	return restoreHash(c.policies, string(r.name), newPolicy(c.everyone.Load(), r.fields, func(error) {}), until)
}

// restoreCertificate keeps the certificate of a record; issuers are those of the records before. mu is
// held.
func (c *Cache) restoreCertificate(r *record, issuers [][]byte, until int64) bool {
	s := &savedCertificate{
		name: string(r.name), leaf: slices.Clone(r.text), key: slices.Clone(r.key),
	}
	for _, i := range r.lengths {
		s.issuers = append(s.issuers, issuers[i])
	}
	k := &certificate{}
	k.saved.Store(s)
	return restoreHash(c.certificates, s.name, k, until)
}

// lastPolicy returns what is known as a host's own policy, fresh or not; nil if none is. mu is held.
func (c *Cache) lastPolicy(host string) *Policy {
	if len(c.policies.present) == 0 || host[0] == '*' || !hasPolicies(host) {
		return nil // Fast path.
	}
	for _, name := range policyNames(host) {
		if h := c.policies.present[name]; h != nil && h.content != nil {
			return h.content
		}
	}
	return nil
}
