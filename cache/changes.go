package cache

import "time"

// The methods of sink. They run on the store's goroutine that reads announcements, so they only
// mark; what must be read again is read by the next lookup.

func (c *Cache) up() {
	c.mu.Lock()
	was := c.epoch.Load()
	c.epoch.Store((was + 1) | 1)
	c.sweep.call((was + 1) | 1)
	c.tellEpoch()
	ended := c.outage
	lasted := time.Duration(c.now() - ended.since)
	c.outage.logged = false
	c.mu.Unlock()
	c.stalled.Store(false)
	c.ready.Store(true)
	if was&1 == 0 {
		c.m.outage.Add(lasted.Seconds())
	}
	if ended.logged {
		c.log.Info("store available again", "after", lasted.Round(time.Millisecond).String(),
			"stale_answers", c.m.staleDown.Get()-ended.stale, "refused", c.m.unavailable.Get()-ended.refused)
	}
	c.marker.wake()
}

func (c *Cache) down(cause error) {
	c.mu.Lock()
	if c.epoch.Load()&1 == 1 {
		c.epoch.Add(1)
		c.outage.since = c.now()
		c.outage.stale, c.outage.refused = c.m.staleDown.Get(), c.m.unavailable.Get()
	}
	log := cause != nil && !c.outage.logged && c.lifetime.Err() == nil
	c.outage.logged = c.outage.logged || log
	c.mu.Unlock()
	if log {
		c.log.Warn("store unavailable, serving what is known", "cause", cause)
	}
}

func (c *Cache) flushed() {
	c.m.flushes.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.epoch.Load(); was&1 == 1 {
		c.flush = flush{epoch: was, at: c.now()}
		defer c.tellEpoch()
		c.sweep.callAfterFlush(c.epoch.Add(2), c.now())
	}
}

func (c *Cache) listChanged(name string) {
	if len(name) > maxHostBytes+len("*.") {
		return // No lookup asks for it, so it need not be remembered.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushed.put(name, struct{}{}, c.now())
	c.outdate(name, true)
	if name != "" && name[0] == '*' {
		// After the entry: whoever sees the new generation also sees the entry outdated.
		c.wildcardsChanged()
	}
}

func (c *Cache) deadChanged(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outdate(name, false)
}

// tellEpoch has the index of names built anew.
func (c *Cache) tellEpoch() {
	select {
	case c.newEpoch <- struct{}{}:
	default:
	}
}

func (c *Cache) hashChanged(f family, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.invalidations.Inc()
	c.tables()[f].changed(name)
}

// outdate marks what is known under name. mu is held.
func (c *Cache) outdate(name string, list bool) {
	c.m.invalidations.Inc()
	c.flights.spoil(name)
	if f := c.flights[name]; f != nil && list && f.pushed == 0 {
		f.pushed = c.now()
	}
	if e := c.table.findString(name); e != nil {
		v := e.value.Load()
		e.value.Store(v.outdated(list, c.now()))
		if list && v.frontend != nil {
			c.rereadSoon(changedKey{name: e.name()})
		}
	}
}

func (c *Cache) announced(host, url string, id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.heard.put(announcedKey(host, id), announcement{url: url, at: now}, now)
	e := c.table.findString(host)
	if e == nil {
		return
	}
	v := e.value.Load()
	if v.dead() == nil {
		return
	}
	if d := v.dead().rebind(id, url, now); d != v.dead() {
		w := *v
		w.setDead(d)
		e.value.Store(&w)
	}
}

// downFor returns how long the watch has been down.
func (c *Cache) downFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.now() - c.outage.since)
}
