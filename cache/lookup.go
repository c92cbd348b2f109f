package cache

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// verdict says how far memory alone answers a lookup.
type verdict uint8

const (
	verdictAsk      verdict = iota // something it depends on is not fresh
	verdictFound                   // fresh
	verdictAged                    // fresh, and due to be read again in the background
	verdictNothing                 // fresh: no list matches
	verdictNoLookup                // fresh: the name has no list; wildcards were not asked for
)

// Lookup resolves a host in the form that AppendHost gives: the exact list, else the wildcard with
// the longest suffix, else the catch-all. host is not kept. client is the peer's address; lookups
// that come to nothing are limited per client network.
//
// A hit answers from memory, without a lock and without allocation. A miss waits for the store: at
// most 50 ms when the name is known but must be read again, at most 300 ms when it is not. The
// error is ErrUnknownHost, ErrUnavailable or ErrLookupLimited.
func (c *Cache) Lookup(host []byte, client netip.Addr) (Route, error) {
	if e := c.table.find(host); e != nil {
		var r Route
		switch c.peek(e, &r) {
		case verdictFound:
			c.m.hits.inc()
			return r, nil
		case verdictNothing:
			c.m.negativeHits.inc()
			return Route{}, ErrUnknownHost
		}
	}
	return c.lookupSlow(string(host), client, false)
}

// LookupExact resolves a name by the list of exactly that name, without wildcards. It serves the
// mode that is compatible with planb, which looks "frontend:<host:port>" up before Lookup's order;
// what it does not find is not counted against the limits, because Lookup follows. hostport holds
// nothing but what AppendHost gives and a port.
func (c *Cache) LookupExact(hostport []byte, client netip.Addr) (Route, error) {
	if e := c.table.find(hostport); e != nil {
		var r Route
		switch c.peekExact(e, &r) {
		case verdictFound:
			c.m.hits.inc()
			return r, nil
		case verdictNoLookup:
			return Route{}, ErrUnknownHost
		}
	}
	return c.lookupSlow(string(hostport), client, true)
}

// peek answers from e as far as everything it depends on is fresh. It reads the clock only for what
// needs it: the clock costs as much as the rest.
func (c *Cache) peek(e *entry, r *Route) verdict {
	v := e.value.Load()
	if v.epoch != c.epoch.Load() || v.expires != never && c.now() >= v.expires {
		return verdictAsk
	}
	owner, own, soft := e, v, v.soft
	if v.frontend == nil {
		if v.gen != c.gen.Load() {
			return verdictAsk
		}
		if v.target == nil {
			e.touch(&c.laps[unknownSpace])
			return verdictNothing
		}
		e.touch(&c.laps[derivedSpace])
		owner = v.target
		own = owner.value.Load()
		if own.epoch != v.epoch || own.frontend == nil || own.expires != never && c.now() >= own.expires {
			return verdictAsk
		}
		soft = min(soft, own.soft)
	} else if v.gen != c.rules.Load() {
		return verdictAsk
	}
	*r = Route{frontend: own.frontend, host: e, owner: owner, extra: v.extra, marks: own.marks}
	if dead := v.dead(); dead != nil || r.marks != nil {
		if dead != nil && dead.frontend != own.frontend {
			return verdictAsk
		}
		r.now = c.now()
	}
	owner.touch(&c.laps[exactSpace])
	if c.clock.now() >= soft {
		return verdictAged
	}
	return verdictFound
}

// peekExact is peek without wildcards.
func (c *Cache) peekExact(e *entry, r *Route) verdict {
	v := e.value.Load()
	if v.frontend != nil {
		return c.peek(e, r)
	}
	if v.epoch != c.epoch.Load() || v.expires != never && c.now() >= v.expires {
		return verdictAsk
	}
	e.touch(&c.laps[v.kind()])
	return verdictNoLookup
}

// lookupSlow answers what a first look at memory could not.
func (c *Cache) lookupSlow(name string, client netip.Addr, exact bool) (Route, error) {
	now := c.now()
	var old Route
	known, nothing := false, false
	if e := c.table.findString(name); e != nil {
		switch c.peekAs(e, exact, &old) {
		case verdictAged:
			c.revalidate(&old)
			fallthrough
		case verdictFound:
			c.m.hits.inc()
			return old, nil
		}
		known, nothing = c.lastKnown(e, exact, now, &old)
	}
	if c.epoch.Load()&1 == 0 {
		switch {
		case known:
			return c.serveStale(old)
		case nothing:
			return Route{}, ErrUnknownHost
		}
	}
	if known {
		return c.refresh(name, old, exact)
	}
	return c.discover(name, client, exact, now)
}

func (c *Cache) peekAs(e *entry, exact bool, r *Route) verdict {
	if exact {
		return c.peekExact(e, r)
	}
	return c.peek(e, r)
}

// refresh reads a known name again. If that takes too long, the old route serves once more; from then
// on nobody waits for the store on behalf of a known name until it has answered something.
func (c *Cache) refresh(name string, old Route, exact bool) (Route, error) {
	deadline := time.Now()
	if !c.stalled.Load() {
		c.m.misses.Inc()
		deadline = deadline.Add(refreshWait)
	}
	r, err := c.resolve(name, exact, deadline)
	if errors.Is(err, ErrUnavailable) {
		c.stalled.Store(true)
		return c.serveStale(old)
	}
	return r, err
}

// discover looks for a name of which nothing usable is known.
func (c *Cache) discover(name string, client netip.Addr, exact bool, now int64) (Route, error) {
	deadline := time.Now().Add(fetchTimeout)
	if !c.admits(name, client, now) {
		c.m.limited.Inc()
		return Route{}, ErrLookupLimited
	}
	c.m.misses.Inc()
	r, err := c.resolve(name, exact, deadline)
	switch {
	case errors.Is(err, ErrUnknownHost):
		c.m.unknown.Inc()
		if !exact {
			c.limit.charge(client, now)
		}
	case errors.Is(err, ErrUnavailable):
		c.m.unavailable.Inc()
	}
	return r, err
}

// admits tells whether a name of which nothing usable is known may be read, after waiting for its
// turn.
func (c *Cache) admits(name string, client netip.Addr, now int64) bool {
	wait, ok := time.Duration(0), c.limit.allows(client, now)
	if ok {
		wait, ok = c.turns.turn(now)
	}
	if ok && wait == 0 || c.pushedLately(name, now) {
		return true
	}
	if ok {
		rest(c.lifetime, wait)
	}
	return ok
}

// pushedLately tells whether a list that would answer for name was pushed in the last minute: a
// host that was just deployed must not wait for a flood of unknown ones to end.
func (c *Cache) pushedLately(name string, now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pushed.get(name, now); ok {
		return true
	}
	for _, w := range wildcards(name) {
		if _, ok := c.pushed.get(w, now); ok {
			return true
		}
	}
	return false
}

// lastKnown puts together what e answered last, fresh or not. known tells that there is such a
// route; nothing tells that the name is remembered as having none. A list that came to its own end
// (EXPIRE) is not known any more, whatever became of the store.
func (c *Cache) lastKnown(e *entry, exact bool, now int64, r *Route) (known, nothing bool) {
	v := e.value.Load()
	owner, own := e, v
	if v.frontend == nil && v.target != nil && !exact {
		owner = v.target
		own = owner.value.Load()
	}
	f, ends := own.frontend, own.expires
	if f == nil || now >= ends {
		return false, v.frontend == nil && v.target == nil && now < v.expires
	}
	*r = Route{
		frontend: f, host: e, owner: owner,
		extra: newExtra(v.dead().attach(f), v.policy()), marks: own.marks,
		now: now, stale: true,
	}
	return true, false
}

// serveStale answers with a route that the store cannot confirm now.
func (c *Cache) serveStale(r Route) (Route, error) {
	if r.host != r.owner {
		r.host.touch(&c.laps[derivedSpace])
	}
	r.owner.touch(&c.laps[exactSpace])
	if c.epoch.Load()&1 == 1 {
		c.m.staleSlow.Inc()
		return r, nil
	}
	if c.o.MaxStale > 0 && c.downFor() > c.o.MaxStale {
		c.m.unavailable.Inc()
		return Route{}, ErrUnavailable
	}
	c.m.staleDown.Inc()
	return r, nil
}

// revalidate has what r depends on read again in the background, if a slot is free.
func (c *Cache) revalidate(r *Route) {
	for _, e := range [...]*entry{r.host, r.owner} {
		if v := e.value.Load(); c.clock.now() < v.soft || !c.takeSlot() {
			continue
		}
		if c.launchAged(e) {
			c.m.revalidations.Inc()
		} else {
			<-c.slots
		}
	}
}

// launchAged launches a flight for an aged entry unless one is on its way.
func (c *Cache) launchAged(e *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[e.name()] != nil || tickOf(c.now()) < e.value.Load().soft || c.lifetime.Err() != nil {
		return false
	}
	c.launch(e.name())
	return true
}

// maxLabels is how many labels of a name take part in the search for a wildcard.
// Hipache: lib/cache.js.
const maxLabels = 6

// wildcards returns the wildcard names that may answer for name, in the order in which they count:
// the longest suffix first, the catch-all last. An address has none but the catch-all.
func wildcards(name string) []string {
	list := make([]string, 0, maxLabels)
	if name[0] != '[' {
		if extra := strings.Count(name, ".") + 1 - maxLabels; extra > 0 {
			for range extra {
				name = name[strings.IndexByte(name, '.')+1:]
			}
		}
		for {
			i := strings.IndexByte(name, '.')
			if i < 0 {
				break
			}
			list = append(list, "*"+name[i:])
			name = name[i+1:]
		}
	}
	return append(list, "*")
}
