package cache

import (
	"math/rand/v2"
	"time"
)

// resolve finds the frontend of a name, reading from the store what is not fresh in memory and
// waiting for it until the deadline. Nothing is asked twice for two callers.
func (c *Cache) resolve(name string, exact bool, deadline time.Time) (Route, error) {
	// The generation is read before anything it covers: a wildcard that changes from here on leaves
	// the resolution outdated, at worst once too often.
	gen := c.gen.Load()
	own, err := c.own(name, deadline)
	if err != nil {
		return Route{}, err
	}
	e, v := own.entry, own.value
	now := c.now()
	if v.frontend != nil {
		if v.gen != c.rules.Load() {
			v = c.givePolicy(e, v)
		}
		return newRoute(v.frontend, e, e, v.extra, now), nil
	}
	if exact {
		c.bind(e, v, nil, 0, nil, never)
		return Route{}, ErrUnknownHost
	}
	target, tv, err := c.wildcard(name, deadline)
	if err != nil {
		return Route{}, err
	}
	if target == nil {
		c.bind(e, v, nil, gen, nil, never)
		return Route{}, ErrUnknownHost
	}
	p, until, known := c.findPolicy(name, v.policy())
	if !known {
		gen = 0
	}
	x := newExtra(v.dead().attach(tv.frontend), p)
	c.bind(e, v, target, gen, x, until)
	return newRoute(tv.frontend, e, target, x, now), nil
}

func newRoute(f *Frontend, host, owner *entry, x *extra, now int64) Route {
	return Route{frontend: f, host: host, owner: owner, extra: x, marks: owner.value.Load().marks, now: now}
}

// candidate is one wildcard name in the order of the search.
type candidate struct {
	settled
	read *flight[settled]
}

// wildcard returns the first wildcard entry that has a list, or nil. What must be read is read at
// the same time, and no further than the first list that memory already holds.
func (c *Cache) wildcard(name string, deadline time.Time) (*entry, *value, error) {
	names := wildcards(name)
	candidates := make([]candidate, 0, maxLabels)
	for _, w := range names {
		known, f, err := c.begin(w, deadline)
		if err != nil {
			return nil, nil, err
		}
		candidates = append(candidates, candidate{known, f})
		if v := known.value; v != nil && v.frontend != nil {
			break
		}
	}
	for _, w := range candidates {
		if w.read != nil {
			var err error
			if w.settled, err = w.read.await(deadline); err != nil {
				return nil, nil, err
			}
		}
		if w.value.frontend != nil {
			return w.entry, w.value, nil
		}
	}
	return nil, nil, nil
}

// bind notes what answers for a name that has no list, in place of from, the value that the search
// began with; if that was replaced meanwhile, the next lookup searches again. From until on, the
// search is to be repeated in the background.
func (c *Cache) bind(e *entry, from *value, target *entry, gen uint32, x *extra, until int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.value.Load() != from || c.table.findString(e.name()) != e {
		return
	}
	now := c.now()
	v := *from
	v.target, v.gen = target, gen
	v.expires = never
	if target == nil {
		v.expires = now + c.jittered(c.o.NegativeTTL)
	} else {
		v.extra, v.soft = x, min(v.soft, tickUntil(until))
	}
	c.replace(e, c.resolutions.shared(&v, now))
}

// sharedValues is how many equal resolutions differ in when they age, so that the names that share
// them do not age together.
const sharedValues = 16

// resolutions lets the names that resolved to the same wildcard, or to nothing, share their values:
// without it each of a quarter of a million derived names would hold one of its own. It serves one
// epoch and generation at a time. Cache.mu guards it.
type resolutions struct {
	epoch  uint64
	gen    uint32
	values map[resolution]*[sharedValues]*value
}

// resolution is what the values that are shared have in common.
type resolution struct {
	target *entry
	extra  *extra
}

// maxResolutions bounds the kinds of values that are shared: hosts with a policy each have one that
// no other has.
const maxResolutions = 1 << 12

// shared returns a value in use that is as good as v and about as young, or else v itself.
func (s *resolutions) shared(v *value, now int64) *value {
	if v.epoch == 0 || v.gen == 0 || v.dead() != nil || v.marks != nil {
		return v
	}
	if s.epoch != v.epoch || s.gen != v.gen {
		s.epoch, s.gen = v.epoch, v.gen
		s.values = map[resolution]*[sharedValues]*value{}
	}
	key := resolution{v.target, v.extra}
	slots := s.values[key]
	if slots == nil {
		if len(s.values) >= maxResolutions {
			return v
		}
		slots = new([sharedValues]*value)
		s.values[key] = slots
	}
	slot := &slots[rand.IntN(sharedValues)]
	if old := *slot; old != nil && aboutAsLong(old.expires, v.expires, now) &&
		aboutAsLong(int64(old.soft), int64(v.soft), int64(tickOf(now))) {
		return old
	}
	*slot = v
	return v
}

// aboutAsLong tells whether a time comes at most a fifth sooner than another, seen from now.
func aboutAsLong(t, other, now int64) bool { return t <= other && t-now >= (other-now)/5*4 }
