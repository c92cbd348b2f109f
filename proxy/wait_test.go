package proxy

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// watchedClient is a client that counts how often it is watched.
type watchedClient struct {
	downstream
	begun, ended atomic.Int32
}

func (c *watchedClient) watch()   { c.begun.Add(1) }
func (c *watchedClient) unwatch() { c.ended.Add(1) }

// A panic on the way to a backend leaves no watch behind, nor one that is about to begin: the client's connection may
// be another request's by then.
func TestExchange_PatienceThatPanics(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		wait    time.Duration
		watches int32
	}{
		{"at once", 0, 0},
		{"later", 4 * watchAfter, 1},
	} {
		c := &watchedClient{}
		x := &exchange{down: c}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was swallowed", tt.name)
				}
			}()
			_ = x.patiently(func(context.Context) error {
				time.Sleep(tt.wait)
				panic("for the test")
			})
		}()
		if x.giveUp != nil {
			t.Errorf("%s: the wait is not over", tt.name)
		}
		time.Sleep(4 * watchAfter)
		if begun, ended := c.begun.Load(), c.ended.Load(); begun != tt.watches || ended != begun {
			t.Errorf("%s: %d watches were begun and %d ended, want %d", tt.name, begun, ended, tt.watches)
		}
	}
}
