package cache

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// maxRedirects bounds how often one read is sent elsewhere.
const maxRedirects = 4

// read reads a list and a dead set, which fall into different slots, at the same time.
func (s *clusterStore) read(ctx context.Context, name string, wantDead bool) (reading, error) {
	start := time.Now()
	defer func() { s.m.roundTrip.Update(time.Since(start)) }()
	var r, dead reading
	deadErr := make(chan error, 1)
	if wantDead {
		go func() {
			replies, err := s.readKey(ctx, s.prefix+deadKey+name, func(l *link) pair { return s.deadPair(l, name) })
			if err == nil {
				err = parseDead(replies, &dead)
			}
			deadErr <- err
		}()
	}
	replies, err := s.readKey(ctx, s.prefix+frontendKey+name, func(l *link) pair { return s.listPair(l, name) })
	if err == nil {
		err = s.parseList(replies, &r)
	}
	if wantDead {
		if err2 := <-deadErr; err == nil {
			err = err2
		}
		r.dead, r.deadTTL, r.deadBroken = dead.dead, dead.deadTTL, dead.deadBroken
	}
	if err != nil {
		s.m.storeError(errorCause(err))
	}
	return r, err
}

// readKey reads one key where its slot is, and follows redirections to masters that are watched. A
// redirection to another one waits for the survey that finds it.
func (s *clusterStore) readKey(ctx context.Context, key string, build func(*link) pair) (pairReply, error) {
	slot := slotOf(key)
	l, err := s.linkOf(ctx, slot)
	if err != nil {
		return pairReply{}, err
	}
	asking := false
	for attempt := 0; ; attempt++ {
		var replies pairReply
		if asking {
			replies = l.askMigrating(ctx, build(l))
		} else {
			replies = l.ask(ctx, build(l))[0]
		}
		address, ask, err := redirection(replies, l.address)
		if err == nil || attempt == maxRedirects || ctx.Err() != nil {
			return replies, nil // the replies hold their errors
		}
		asking = ask
		seen := s.view.Load()
		switch next := s.linkAt(address); {
		case address == "":
			if isReply(err) {
				return replies, nil
			}
			// The connection was lost since the last read; the next use dials.
		case next != nil && (!ask || next.tier != tierOptIn):
			l = next
			if !ask {
				s.ask()
			}
			continue
		default:
			s.ask()
			s.awaitView(ctx, seen, fetchTimeout)
			asking = false
		}
		if l, err = s.linkOf(ctx, slot); err != nil {
			return pairReply{}, err
		}
	}
}

// askMigrating reads a key that has moved although its slot has not yet.
func (l *link) askMigrating(ctx context.Context, p pair) pairReply {
	b := l.client.B()
	replies := l.client.DoMulti(ctx, b.Asking().Build(), p[0], b.Asking().Build(), p[1])
	return pairReply{replies[1], replies[3]}
}

// redirection tells where a node sends us: to the new owner of the slot, or, if ask, for this key
// alone. err is the first that is no wrong type; the address is "" if it sends us nowhere.
func redirection(replies pairReply, from string) (address string, ask bool, err error) {
	for _, reply := range replies {
		if err = reply.Error(); err != nil && !isWrongType(err) {
			break
		}
		err = nil
	}
	reply, ok := rueidis.IsRedisErr(err)
	if !ok {
		return "", false, err
	}
	words := strings.Fields(reply.Error())
	if len(words) != 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return "", false, err
	}
	address = words[2]
	if host, port, splitErr := net.SplitHostPort(address); splitErr == nil && host == "" {
		// It does not know its own address, but the port on the host we reached it by.
		host, _, _ = net.SplitHostPort(from)
		address = net.JoinHostPort(host, port)
	}
	return address, words[0] == "ASK", err
}
