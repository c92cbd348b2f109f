package cache

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Keys and the channel that do not take the prefix. Hipache: lib/cache.js.
const (
	deadKey     = "dead:"
	deadChannel = "dead"
	checkerKey  = "hchecker_ping"
)

// pair is what reads one key: its value and what is left of its life.
type pair [2]rueidis.Completed

// pairReply are the replies to a pair.
type pairReply [2]rueidis.RedisResult

func (w *redisWatcher) listPair(l *link, name string) pair {
	key, b := w.prefix+frontendKey+name, l.client.B()
	return pair{
		// One more than allowed, to see that the list is longer.
		b.Lrange().Key(key).Start(0).Stop(int64(w.o.MaxBackends) + 1).Build(),
		b.Pttl().Key(key).Build(),
	}
}

func (w *redisWatcher) deadPair(l *link, name string) pair {
	key, b := w.prefix+deadKey+name, l.client.B()
	return pair{b.Smembers().Key(key).Build(), b.Pttl().Key(key).Build()}
}

// ask reads keys in one round trip. The commands need not be atomic: a change between them is
// announced and makes the reading void.
func (l *link) ask(ctx context.Context, pairs ...pair) []pairReply {
	commands := make(rueidis.Commands, 0, 6)
	step := 2
	if l.tier == tierOptIn {
		step = 3
	}
	for _, p := range pairs {
		if l.tier == tierOptIn {
			// The server tracks the key of the next command alone.
			commands = append(commands, l.client.B().ClientCaching().Yes().Build())
		}
		commands = append(commands, p[0], p[1])
	}
	replies := l.client.DoMulti(ctx, commands...)
	answers := make([]pairReply, len(pairs))
	for i := range answers {
		answers[i] = pairReply(replies[i*step+step-2 : i*step+step])
	}
	return answers
}

// parseList reads the replies to listPair.
func (w *redisWatcher) parseList(replies pairReply, r *reading) (err error) {
	if r.list, err = replies[0].AsStrSlice(); err != nil {
		if !isWrongType(err) {
			return err
		}
		r.broken = errWrongType
	}
	if r.listTTL, err = ttl(replies[1]); err != nil {
		return err
	}
	if limit := w.o.MaxBackends + 1; len(r.list) > limit {
		r.list, r.cut = r.list[:limit], true
	}
	return nil
}

// parseDead reads the replies to deadPair.
func parseDead(replies pairReply, r *reading) (err error) {
	if r.dead, err = replies[0].AsStrSlice(); err != nil {
		if !isWrongType(err) {
			return err
		}
		r.deadBroken = errWrongType
	}
	r.deadTTL, err = ttl(replies[1])
	return err
}

// ttl reads a PTTL reply; a key without an end and no key are both 0.
func ttl(reply rueidis.RedisResult) (time.Duration, error) {
	ms, err := reply.AsInt64()
	if err != nil || ms < 0 {
		return 0, err
	}
	// A key in its last millisecond answers 0, which would mean that it never ends.
	return time.Duration(max(ms, 1)) * time.Millisecond, nil
}

// checkerSeen reads the value of hchecker_ping; what is not a number counts as never.
func checkerSeen(reply rueidis.RedisResult) (int64, error) {
	text, err := reply.ToString()
	if rueidis.IsRedisNil(err) || isWrongType(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The checker may write fractions of a second.
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, nil //nolint:nilerr // a foreign value means that no checker is known
	}
	return int64(seconds), nil
}

// errWrongType is a key that holds another type than its name promises.
var errWrongType = errors.New("key is of the wrong type")

// isReply tells whether err is an answer of the server, as opposed to a lost connection.
func isReply(err error) bool {
	_, ok := rueidis.IsRedisErr(err)
	return ok
}

// isForbidden tells whether the user of the store may not do what was asked for.
func isForbidden(err error) bool { return hasReplyCode(err, "NOPERM") }

func isWrongType(err error) bool { return hasReplyCode(err, "WRONGTYPE") }

// hasReplyCode tells whether err is an error reply that begins with code.
func hasReplyCode(err error, code string) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(reply.Error(), code)
}

// replyMaxClients is how a server begins that has as many connections as it may.
const replyMaxClients = "ERR max number of clients"

// errorCause returns the metric label of an error of the store.
func errorCause(err error) string {
	switch {
	case errors.Is(err, errDown):
		return "down"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case hasReplyCode(err, "LOADING"), hasReplyCode(err, "MASTERDOWN"):
		return "loading"
	case hasReplyCode(err, "NOAUTH"), hasReplyCode(err, "NOPERM"), hasReplyCode(err, "WRONGPASS"):
		return "refused"
	case hasReplyCode(err, "READONLY"):
		return "readonly"
	case hasReplyCode(err, "OOM"):
		return "oom"
	case hasReplyCode(err, replyMaxClients):
		return "max_clients"
	case isReply(err):
		return "reply"
	default:
		return "connection"
	}
}
