package cache

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// tick counts time in steps of 67 ms since a second before New, for what needs no more: when a value
// is to be read again, when an entry was used last. 32 bits of them last for nine years.
type tick uint32

const (
	tickShift  = 26
	tickLength = time.Duration(1) << tickShift
)

// tickOf returns the tick that a time of Cache.now lies in.
func tickOf(now int64) tick { return tick(now >> tickShift) }

// tickAfter returns the first tick that begins at or after a time of Cache.now.
func tickAfter(at int64) tick { return tick((at + int64(tickLength) - 1) >> tickShift) }

// tickUntil is tickAfter for a time that may be never.
func tickUntil(at int64) tick {
	if at == never {
		return math.MaxUint32
	}
	return tickAfter(at)
}

// coarseClock knows the tick without asking the kernel's clock, which takes as long as the rest of a
// hit and waits for all loads before it.
type coarseClock struct{ tick atomic.Uint32 }

func (k *coarseClock) now() tick { return tick(k.tick.Load()) }

func (k *coarseClock) set(now int64) { k.tick.Store(uint32(tickOf(now))) }

// keepTime moves the coarse clock on until ctx ends.
func (c *Cache) keepTime(ctx context.Context) {
	ticker := time.NewTicker(tickLength)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.clock.set(c.now())
		}
	}
}
