package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/rueidis"
)

// redisTimeout bounds each exchange with Redis.
const redisTimeout = 5 * time.Second

// seeded are keys that this program wrote and removes again.
type seeded struct {
	client rueidis.Client
	keys   []string
}

// seed writes the routes into the Redis of a driver URL. It changes no key that is there already:
// it refuses to start then.
func seed(ctx context.Context, driver string, r routes) (*seeded, error) {
	u, err := url.Parse(driver)
	if err != nil {
		return nil, fmt.Errorf("read Redis URL: %w", errors.Unwrap(err)) // Without the URL: it may hold a password.
	}
	option, err := rueidis.ParseURL(driver)
	if err != nil {
		return nil, fmt.Errorf("read Redis URL: %w", err)
	}
	option.DisableCache = true
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	s := &seeded{client: client}
	if err := s.write(ctx, u.Fragment, r); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// write adds the keys one by one, each list whole in one command.
func (s *seeded) write(ctx context.Context, prefix string, r routes) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	for _, name := range r.keys() {
		key := prefix + name
		n, err := s.client.Do(ctx, s.client.B().Exists().Key(key).Build()).AsInt64()
		if err != nil {
			return fmt.Errorf("look for %s: %w", key, err)
		}
		if n > 0 {
			return fmt.Errorf("write %s: the key is there already and stays as it is; "+
				"give the samples a prefix of their own: --redis 'redis://...#sample:'", key)
		}
		if err := s.client.Do(ctx, s.client.B().Rpush().Key(key).Element(r[name]...).Build()).Error(); err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		s.keys = append(s.keys, key)
	}
	return nil
}

// remove takes out what write has put in, and disconnects.
func (s *seeded) remove() error {
	defer s.client.Close()
	if len(s.keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	if err := s.client.Do(ctx, s.client.B().Del().Key(s.keys...).Build()).Error(); err != nil {
		return fmt.Errorf("remove the sample routes %v: %w", s.keys, err)
	}
	return nil
}
