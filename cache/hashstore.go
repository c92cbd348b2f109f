package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// family is one kind of hashes in the store, beside the lists of frontends.
type family uint8

const (
	certificateFamily family = iota // "tls:<name>"
	policyFamily                    // "route:<host>"
	families
)

// familyKeys begin the keys of the families, in Redis and in the routes file.
var familyKeys = [families]string{"tls:", "route:"}

// familyPattern matches the keys of all families, and few others: one walk through the keys of a
// server serves all of them.
const familyPattern = "[tr][lo][su]*"

const (
	// maxHashFields bounds the fields that are read of a hash. Limit: what is larger is not used.
	maxHashFields = 64
	// maxHashBytes bounds what the fields of a hash may hold together.
	maxHashBytes = 256 << 10
	// namesPerStep is how many keys a server looks at in one step of a walk.
	namesPerStep = 1000
)

// cutFamily splits a key without the prefix into its family and name.
func cutFamily(key string) (f family, name string, ok bool) {
	for f, begin := range familyKeys {
		if name, ok := strings.CutPrefix(key, begin); ok && name != "" {
			return family(f), name, true
		}
	}
	return 0, "", false
}

// hashReading is what a store holds under one name of a family.
type hashReading struct {
	// fields is nil when there is nothing.
	fields map[string]string
	// ttl is what is left of the key's life; 0 means that it does not expire.
	ttl time.Duration
	// broken is not nil when something is there that is no hash, or too large a one.
	broken error
}

var (
	// errManyFields is a hash that nobody would write by hand.
	errManyFields = fmt.Errorf("the hash has more than %d fields", maxHashFields)
	errLargeHash  = fmt.Errorf("the hash holds more than %d KiB", maxHashBytes>>10)
	// errNoNames is a store that cannot tell the names that exist, or not so that the answer could be
	// kept up to date.
	errNoNames = errors.New("the server does not push every change")
)

// hashPair reads a hash in one step of a walk through it, because the answer to HGETALL has no
// bound.
func (w *redisWatcher) hashPair(l *link, f family, name string) pair {
	key, b := w.prefix+familyKeys[f]+name, l.client.B()
	return pair{
		b.Hscan().Key(key).Cursor(0).Count(maxHashFields).Build(),
		b.Pttl().Key(key).Build(),
	}
}

// parseHash reads the replies to hashPair.
func parseHash(replies pairReply) (r hashReading, err error) {
	if isWrongType(replies[0].Error()) {
		r.broken = errWrongType
		return r, nil
	}
	page, err := replies[0].AsScanEntry()
	if err != nil {
		return r, err
	}
	if r.ttl, err = ttl(replies[1]); err != nil {
		return r, err
	}
	if page.Cursor != 0 || len(page.Elements) > 2*maxHashFields {
		r.broken = errManyFields
		return r, nil
	}
	for i := 0; i+1 < len(page.Elements); i += 2 {
		if r.fields == nil {
			r.fields = make(map[string]string, len(page.Elements)/2)
		}
		r.fields[page.Elements[i]] = page.Elements[i+1]
	}
	r.bound()
	return r, nil
}

// bound gives up fields that are too large together.
func (r *hashReading) bound() {
	size := 0
	for name, text := range r.fields {
		size += len(name) + len(text)
	}
	switch {
	case len(r.fields) > maxHashFields:
		r.fields, r.broken = nil, errManyFields
	case size > maxHashBytes:
		r.fields, r.broken = nil, errLargeHash
	}
}

// namesOf walks through the keys of one server and calls each for those of the families, for some
// more than once.
func (w *redisWatcher) namesOf(ctx context.Context, l *link, each func(family, string) error) error {
	if l.tier != tierBroadcast {
		return errNoNames
	}
	for cursor := uint64(0); ; {
		walk := l.client.B().Scan().Cursor(cursor).Match(globEscape(w.prefix) + familyPattern).Count(namesPerStep).Build()
		page, err := l.client.Do(ctx, walk).AsScanEntry()
		if err != nil {
			return err
		}
		for _, key := range page.Elements {
			if f, name, ok := cutFamily(strings.TrimPrefix(key, w.prefix)); ok {
				if err := each(f, name); err != nil {
					return err
				}
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

func (s *redisStore) readHash(ctx context.Context, f family, name string) (r hashReading, err error) {
	err = s.attempt(ctx, func(l *link) (err error) {
		r, err = parseHash(l.ask(ctx, s.hashPair(l, f, name))[0])
		return err
	})
	return r, err
}

func (s *redisStore) names(ctx context.Context, each func(family, string) error) error {
	l, err := s.reader(ctx)
	if err != nil {
		return err
	}
	return s.namesOf(ctx, l, each)
}

func (s *clusterStore) readHash(ctx context.Context, f family, name string) (r hashReading, err error) {
	start := time.Now()
	replies, err := s.readKey(ctx, s.prefix+familyKeys[f]+name, func(l *link) pair { return s.hashPair(l, f, name) })
	if err == nil {
		r, err = parseHash(replies)
	}
	s.m.roundTrip.Update(time.Since(start))
	if err != nil {
		s.m.storeError(errorCause(err))
	}
	return r, err
}

func (s *clusterStore) names(ctx context.Context, each func(family, string) error) error {
	v := s.view.Load()
	if len(v.links) == 0 {
		return errDown
	}
	for _, l := range v.links {
		if l == nil {
			return errDown
		}
		if err := s.namesOf(ctx, l, each); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileStore) readHash(_ context.Context, f family, name string) (hashReading, error) {
	s.mu.RLock()
	r := hashReading{fields: s.hashes[f][name]}
	s.mu.RUnlock()
	r.bound()
	return r, nil
}

func (s *fileStore) names(_ context.Context, each func(family, string) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for f := range s.hashes {
		for name := range s.hashes[f] {
			if err := each(family(f), name); err != nil {
				return err
			}
		}
	}
	return nil
}

// trackingCommand asks for a push of every change under our keys.
func (w *redisWatcher) trackingCommand(b rueidis.Builder) rueidis.Completed {
	begins := append([]string{frontendKey, deadKey}, familyKeys[:]...)
	words := append(make([]string, 0, 3+2*len(begins)), "TRACKING", "ON", "BCAST")
	for _, begin := range begins {
		words = append(words, "PREFIX", w.prefix+begin)
	}
	return b.Arbitrary("CLIENT").Args(words...).Build()
}
