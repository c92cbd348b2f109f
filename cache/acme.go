package cache

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// ErrNoShare is a store that no other edge shares: a routes file.
var ErrNoShare = errors.New("cache: the store is not shared with other edges")

// Keys of the schedule of renewals, sorted sets of names: by when they are due, and by when their
// certificates end, in unix seconds.
const (
	renewKey  = "acme:renew"
	expiryKey = "acme:expiry"
)

// ACMEStore is the part of the store that the edges of a fleet obtain certificates through; package
// acme says what its methods mean. It reads and writes on the master. Its methods are safe for
// concurrent use. They are retried where a connection was lost, so each may happen twice.
type ACMEStore struct {
	c      *Cache
	keys   sharedKeys
	prefix string
	// limit bounds the questions for challenges that do not exist.
	limit *missLimit
}

// sharedKeys is a store whose keys can be written.
type sharedKeys interface {
	// atMaster performs one command that is about a single key, where that key is written. build is
	// called for each attempt, so the command must be one that may happen twice.
	atMaster(ctx context.Context, key string, build func(rueidis.Builder) rueidis.Completed) (rueidis.RedisResult, error)
}

// ACME returns the store's part for certificates on demand; the error is ErrNoShare if it has none.
func (c *Cache) ACME() (*ACMEStore, error) {
	s := &ACMEStore{c: c, limit: newMissLimit(c.o.MaxMissRate)}
	switch store := c.store.(type) {
	case *redisStore:
		s.keys, s.prefix = store, store.prefix
	case *clusterStore:
		s.keys, s.prefix = store, store.prefix
	default:
		return nil, ErrNoShare
	}
	return s, nil
}

func (s *redisStore) atMaster(
	ctx context.Context, _ string, build func(rueidis.Builder) rueidis.Completed,
) (r rueidis.RedisResult, err error) {
	for range 2 { // the first one may find a connection that was lost meanwhile
		client, err := s.writes.connected()
		if err != nil {
			s.m.storeError("down")
			return r, fmt.Errorf("%w: %w", errDown, err)
		}
		r = client.Do(ctx, build(client.B()))
		if err = r.Error(); err == nil || rueidis.IsRedisNil(err) {
			return r, nil
		}
		s.m.storeError(errorCause(err))
		if isReply(err) || ctx.Err() != nil {
			return r, err
		}
	}
	return r, r.Error()
}

func (s *clusterStore) atMaster(
	ctx context.Context, key string, build func(rueidis.Builder) rueidis.Completed,
) (r rueidis.RedisResult, err error) {
	for range maxRedirects {
		seen := s.view.Load()
		client, err := s.clientOf(ctx, key)
		if err != nil {
			s.m.storeError("down")
			return r, err
		}
		r = client.Do(ctx, build(client.B()))
		if err = r.Error(); err == nil || rueidis.IsRedisNil(err) {
			return r, nil
		}
		s.m.storeError(errorCause(err))
		if isReply(err) && !passes(err) || ctx.Err() != nil {
			return r, err
		}
		// The slot is elsewhere by now, or its master is: the survey finds out.
		s.ask()
		s.awaitView(ctx, seen, fetchTimeout)
	}
	return r, r.Error()
}

// do performs a command about a key without its prefix.
func (s *ACMEStore) do(
	ctx context.Context, key string, build func(b rueidis.Builder, key string) rueidis.Completed,
) (rueidis.RedisResult, error) {
	key = s.prefix + key
	return s.keys.atMaster(ctx, key, func(b rueidis.Builder) rueidis.Completed { return build(b, key) })
}

// run performs a script about one key.
func (s *ACMEStore) run(ctx context.Context, script, key string, args ...string) (int64, error) {
	r, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
		return b.Eval().Script(script).Numkeys(1).Key(key).Arg(args...).Build()
	})
	if err != nil {
		return 0, err
	}
	return r.AsInt64()
}

// Get returns the text under a key.
func (s *ACMEStore) Get(ctx context.Context, key string) (text string, ok bool, err error) {
	r, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed { return b.Get().Key(key).Build() })
	if err != nil || rueidis.IsRedisNil(r.Error()) {
		return "", false, err
	}
	text, err = r.ToString()
	return text, err == nil, err
}

// Challenge is Get for a client, within fetchTimeout and the limits of questions that come to
// nothing.
func (s *ACMEStore) Challenge(key string, client netip.Addr) (text string, ok bool, err error) {
	if !s.limit.allows(client, s.c.now()) {
		s.c.m.certsLimited.Inc()
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(s.c.lifetime, fetchTimeout)
	defer cancel()
	text, ok, err = s.Get(ctx, key)
	if !ok {
		s.limit.charge(client, s.c.now())
	}
	return text, ok, err
}

// Put keeps text under a key; ttl 0 means without an end.
func (s *ACMEStore) Put(ctx context.Context, key, text string, ttl time.Duration) error {
	_, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
		if ttl <= 0 {
			return b.Set().Key(key).Value(text).Build()
		}
		return b.Set().Key(key).Value(text).PxMilliseconds(milliseconds(ttl)).Build()
	})
	return err
}

// milliseconds rounds up, because Redis refuses 0.
func milliseconds(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// Delete removes a key.
func (s *ACMEStore) Delete(ctx context.Context, key string) error {
	_, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed { return b.Del().Key(key).Build() })
	return err
}

const lockScript = `
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`

// Lock takes or prolongs a lock.
func (s *ACMEStore) Lock(ctx context.Context, key, owner string, ttl time.Duration) (bool, error) {
	n, err := s.run(ctx, lockScript, key, owner, strconv.FormatInt(milliseconds(ttl), 10))
	return n == 1, err
}

const unlockScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`

// Unlock gives the owner's lock up.
func (s *ACMEStore) Unlock(ctx context.Context, key, owner string) error {
	_, err := s.run(ctx, unlockScript, key, owner)
	return err
}

// admitScript keeps the events of a window in a sorted set by their time.
const admitScript = `
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZSCORE', KEYS[1], ARGV[4]) then return 0 end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return math.max(first[2] + window - now, 1)
end
redis.call('ZADD', KEYS[1], now, ARGV[4])
redis.call('PEXPIRE', KEYS[1], window)
return 0`

// Admit counts an event unless limit of them were counted in the last window.
func (s *ACMEStore) Admit(
	ctx context.Context, key, id string, limit int, window time.Duration,
) (wait time.Duration, err error) {
	n, err := s.run(ctx, admitScript, key, strconv.FormatInt(time.Now().UnixMilli(), 10),
		strconv.FormatInt(milliseconds(window), 10), strconv.Itoa(limit), id)
	return time.Duration(n) * time.Millisecond, err
}

// Retract takes an event back.
func (s *ACMEStore) Retract(ctx context.Context, key, id string) error {
	return s.remove(ctx, key, id)
}

func (s *ACMEStore) remove(ctx context.Context, key, member string) error {
	_, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
		return b.Zrem().Key(key).Member(member).Build()
	})
	return err
}

// ownerScript is the head of scripts about "tls:<name>". Whoever writes a certificate there by hand
// leaves the field that marks ours as it was, so it holds a digest of the certificate: it does not
// fit another one.
const ownerScript = `
local held = redis.call('HMGET', KEYS[1], 'certificate', 'acme', 'key')
local ours = held[1] and held[2] == redis.sha1hex(held[1])
`

const readScript = ownerScript + `
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
return {ours and '1' or '0', held[1] or '', held[3] or ''}`

// Certificate returns what "tls:<name>" holds.
func (s *ACMEStore) Certificate(
	ctx context.Context, name string,
) (certificate, key string, ours, found bool, err error) {
	r, err := s.do(ctx, familyKeys[certificateFamily]+name, func(b rueidis.Builder, key string) rueidis.Completed {
		return b.Eval().Script(readScript).Numkeys(1).Key(key).Build()
	})
	if isWrongType(err) {
		return "", "", false, true, nil // It is somebody's.
	}
	if err != nil {
		return "", "", false, false, err
	}
	fields, err := r.AsStrSlice()
	if err != nil || len(fields) < 3 {
		return "", "", false, false, err
	}
	return fields[1], fields[2], fields[0] == "1", true, nil
}

const writeScript = ownerScript + `
if not ours and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'certificate', ARGV[1], 'key', ARGV[2], 'acme', redis.sha1hex(ARGV[1]))
return 1`

// PutCertificate writes "tls:<name>" unless somebody else did.
func (s *ACMEStore) PutCertificate(ctx context.Context, name, certificate, key string) (bool, error) {
	n, err := s.run(ctx, writeScript, familyKeys[certificateFamily]+name, certificate, key)
	if isWrongType(err) {
		return false, nil
	}
	return n == 1, err
}

func (s *ACMEStore) rank(ctx context.Context, key, name string, at time.Time, onlyKnown bool) error {
	_, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
		score := float64(at.Unix())
		if onlyKnown {
			return b.Zadd().Key(key).Xx().ScoreMember().ScoreMember(score, name).Build()
		}
		return b.Zadd().Key(key).ScoreMember().ScoreMember(score, name).Build()
	})
	return err
}

// Schedule notes a name.
func (s *ACMEStore) Schedule(ctx context.Context, name string, due, expiry time.Time) error {
	return errors.Join(s.rank(ctx, expiryKey, name, expiry, false), s.rank(ctx, renewKey, name, due, false))
}

// Postpone changes when a name is due.
func (s *ACMEStore) Postpone(ctx context.Context, name string, due time.Time) error {
	return s.rank(ctx, renewKey, name, due, true)
}

// Forget removes a name from the schedule.
func (s *ACMEStore) Forget(ctx context.Context, name string) error {
	return errors.Join(s.remove(ctx, expiryKey, name), s.remove(ctx, renewKey, name))
}

// Due returns names that are due.
func (s *ACMEStore) Due(ctx context.Context, now time.Time, limit int) ([]string, error) {
	r, err := s.do(ctx, renewKey, func(b rueidis.Builder, key string) rueidis.Completed {
		return b.Zrangebyscore().Key(key).Min("-inf").Max(strconv.FormatInt(now.Unix(), 10)).Limit(0, int64(limit)).Build()
	})
	if err != nil {
		return nil, err
	}
	return r.AsStrSlice()
}

// Outlook sums the schedule up.
func (s *ACMEStore) Outlook(
	ctx context.Context, now time.Time,
) (names, due int, next, firstExpiry time.Time, err error) {
	second := strconv.FormatInt(now.Unix(), 10)
	count := func(key, maximum string) (n int64, err error) {
		r, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
			return b.Zcount().Key(key).Min("-inf").Max(maximum).Build()
		})
		if err != nil {
			return 0, err
		}
		return r.AsInt64()
	}
	first := func(key, minimum string) (time.Time, error) {
		r, err := s.do(ctx, key, func(b rueidis.Builder, key string) rueidis.Completed {
			return b.Zrangebyscore().Key(key).Min(minimum).Max("+inf").Withscores().Limit(0, 1).Build()
		})
		if err != nil {
			return time.Time{}, err
		}
		scores, err := r.AsZScores()
		if err != nil || len(scores) == 0 {
			return time.Time{}, err
		}
		return time.Unix(int64(scores[0].Score), 0), nil
	}
	all, err1 := count(renewKey, "+inf")
	overdue, err2 := count(renewKey, second)
	next, err3 := first(renewKey, "("+second)
	firstExpiry, err4 := first(expiryKey, "-inf")
	return int(all), int(overdue), next, firstExpiry, errors.Join(err1, err2, err3, err4)
}
