package cache

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"
)

// markTargets are the clients that hold what a mark needs; all the same one but in a Cluster, where
// that of the checker may be nil: while its master is away, no checker is known to live.
type markTargets struct{ list, dead, checker rueidis.CommandClient }

// markOn writes m on the write side: SADD, EXPIRE and PUBLISH in one MULTI, or PUBLISH alone while
// an active checker lives (Hipache: lib/cache.js). Before that it compares the URL at the id,
// because the list may have shifted since it was read; a mark of the wrong backend is worse than
// none.
func (w *redisWatcher) markOn(ctx context.Context, at markTargets, m mark) (markOutcome, error) {
	key := w.prefix + frontendKey + m.key
	url, err := at.list.Do(ctx, at.list.B().Lindex().Key(key).Index(int64(m.id)+1).Build()).ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, w.markError(err)
	}
	if url != m.url {
		return markMoved, nil
	}
	seen := int64(0)
	if at.checker != nil {
		if seen, err = checkerSeen(at.checker.Do(ctx, at.checker.B().Get().Key(checkerKey).Build())); err != nil {
			return 0, w.markError(err)
		}
	}
	publish := at.dead.B().Publish().Channel(deadChannel).Message(m.text()).Build()
	if checkerAlive(seen) {
		if err := at.dead.Do(ctx, publish).Error(); err != nil {
			return 0, w.markError(err)
		}
		return markPublished, nil
	}
	return markWritten, w.writeMark(ctx, at.dead, m, publish)
}

// writeMark performs the MULTI. Its commands travel together, so nothing comes between them on the
// shared connection.
func (w *redisWatcher) writeMark(
	ctx context.Context, client rueidis.CommandClient, m mark, publish rueidis.Completed,
) error {
	key := w.prefix + deadKey + m.host
	seconds := int64((w.o.DeadTTL + 999_999_999) / 1_000_000_000)
	replies := client.DoMulti(ctx,
		client.B().Multi().Build(),
		client.B().Sadd().Key(key).Member(strconv.Itoa(m.id)).Build(),
		client.B().Expire().Key(key).Seconds(seconds).Build(),
		publish,
		client.B().Exec().Build())
	for _, reply := range replies {
		if err := reply.Error(); err != nil {
			return w.markError(err)
		}
	}
	results, err := replies[len(replies)-1].ToArray()
	if err != nil {
		return w.markError(err)
	}
	for i := range results {
		if err := results[i].Error(); err != nil {
			return w.markError(err)
		}
	}
	return nil
}

// markError counts err and tells what a later attempt may heal from what it cannot.
func (w *redisWatcher) markError(err error) error {
	w.m.storeError(errorCause(err))
	if isReply(err) && !passes(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errDown, err)
}

// passingStates are how error replies begin that are about the state that the server, its Cluster, or
// the connection to it is in.
var passingStates = []string{
	"LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "NOREPLICAS", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN",
	"NOAUTH", "WRONGPASS", replyMaxClients,
}

func passes(err error) bool {
	return slices.ContainsFunc(passingStates, func(code string) bool { return hasReplyCode(err, code) })
}
