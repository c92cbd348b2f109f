package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"sluice/internal/redistest"
)

// churnTick is how often changes are sent: at a thousand a second a few in one pipeline each time.
const churnTick = 5 * time.Millisecond

// churner gives one host after another the other of two backends, at a fixed rate.
type churner struct {
	client  *redistest.Client
	targets []string // both backends
	hosts   int
	cancel  context.CancelFunc
	done    chan error
	start   time.Time
	changes int
}

// startChurn begins to change the routes of e; stop ends that.
func startChurn(ctx context.Context, s *site, e entrant) (*churner, error) {
	client, err := redistest.Dial("tcp", e.redis.Addr())
	if err != nil {
		return nil, fmt.Errorf("change routes: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &churner{
		client: client, targets: localURLs(s.backends[:]), hosts: e.work.hosts,
		cancel: cancel, done: make(chan error, 1), start: time.Now(),
	}
	go func() { c.done <- c.run(ctx, e.work.changes) }()
	return c, nil
}

// run changes rate routes a second until ctx ends.
func (c *churner) run(ctx context.Context, rate int) error {
	tick := time.NewTicker(churnTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			due := int(now.Sub(c.start).Seconds() * float64(rate))
			if err := c.change(due - c.changes); err != nil {
				return fmt.Errorf("change routes: %w", err)
			}
		}
	}
}

// change rewrites n lists, each in a transaction, in one pipeline.
func (c *churner) change(n int) error {
	replies := 0
	for range n {
		host := hostName(rand.IntN(c.hosts))
		key := "frontend:" + host
		for _, words := range [][]string{
			{"MULTI"}, {"DEL", key}, {"RPUSH", key, host, c.targets[c.changes%len(c.targets)]}, {"EXEC"},
		} {
			if err := c.client.Send(words...); err != nil {
				return err
			}
			replies++
		}
		c.changes++
	}
	if replies == 0 {
		return nil
	}
	return receive(c.client, replies)
}

// stop ends the changes and tells how many there were in a second.
func (c *churner) stop() (float64, error) {
	c.cancel()
	err := <-c.done
	elapsed := time.Since(c.start).Seconds()
	_ = c.client.Close() // Everything was answered.
	return float64(c.changes) / elapsed, err
}
