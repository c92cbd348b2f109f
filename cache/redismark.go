package cache

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"
)

// mark writes m on the write side: SADD, EXPIRE and PUBLISH in one MULTI, or PUBLISH alone while an
// active checker lives (Hipache: lib/cache.js). Before that it compares the URL at the id, because
// the list may have shifted since it was read; a mark of the wrong backend is worse than none.
func (s *redisStore) mark(ctx context.Context, m mark) (markOutcome, error) {
	client, err := s.writes.connected()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errDown, err)
	}
	replies := client.DoMulti(ctx,
		client.B().Lindex().Key(s.prefix+frontendKey+m.key).Index(int64(m.id)+1).Build(),
		client.B().Get().Key(checkerKey).Build())
	url, err := replies[0].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, s.markError(err)
	}
	if url != m.url {
		return markMoved, nil
	}
	seen, err := checkerSeen(replies[1])
	if err != nil {
		return 0, s.markError(err)
	}
	publish := client.B().Publish().Channel(deadChannel).Message(m.text()).Build()
	if checkerAlive(seen) {
		if err := client.Do(ctx, publish).Error(); err != nil {
			return 0, s.markError(err)
		}
		return markPublished, nil
	}
	return markWritten, s.writeMark(ctx, client, m, publish)
}

// writeMark performs the MULTI. Its commands travel together, so nothing comes between them on the
// shared connection.
func (s *redisStore) writeMark(ctx context.Context, client rueidis.Client, m mark, publish rueidis.Completed) error {
	key := s.prefix + deadKey + m.host
	seconds := int64((s.o.DeadTTL + 999_999_999) / 1_000_000_000)
	replies := client.DoMulti(ctx,
		client.B().Multi().Build(),
		client.B().Sadd().Key(key).Member(strconv.Itoa(m.id)).Build(),
		client.B().Expire().Key(key).Seconds(seconds).Build(),
		publish,
		client.B().Exec().Build())
	for _, reply := range replies {
		if err := reply.Error(); err != nil {
			return s.markError(err)
		}
	}
	results, err := replies[len(replies)-1].ToArray()
	if err != nil {
		return s.markError(err)
	}
	for i := range results {
		if err := results[i].Error(); err != nil {
			return s.markError(err)
		}
	}
	return nil
}

// markError counts err and tells what a later attempt may heal from what it cannot.
func (s *redisStore) markError(err error) error {
	s.m.storeError(errorCause(err))
	if isReply(err) && !hasReplyCode(err, "LOADING") && !hasReplyCode(err, "READONLY") {
		return err
	}
	return fmt.Errorf("%w: %w", errDown, err)
}
