package cache

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// Policy is what the store and the configuration say about a host beside its backends. What is
// exported of it is immutable, and shared by all hosts that it is for.
type Policy struct {
	// RedirectHTTPS sends clients that come by plain HTTP to https.
	RedirectHTTPS bool
	// MovedPermanently makes redirects of GET and HEAD 301, not 308.
	MovedPermanently bool
	// HSTS is the value of Strict-Transport-Security; empty means that none is sent.
	HSTS string
	// CanonicalHost is where requests for another host are sent, as AppendHost gives it; empty means
	// nowhere.
	CanonicalHost string

	// alone is the extra of names that have this policy and nothing else.
	alone *extra
	// base is the policy of all hosts that this one was made on, nil for such a one itself, and packed
	// the fields that were applied to it, as packFields writes them.
	base   *Policy
	packed string
	// newer is this one on another base; nil while none was asked for.
	newer atomic.Pointer[Policy]
}

// newPolicy returns a policy like base that fields were applied to; nil is the base of a policy of
// all hosts. mistake is called for each field that is unknown or cannot be used; the others count.
func newPolicy(base *Policy, fields map[string]string, mistake func(error)) *Policy {
	p := &Policy{base: base, packed: packFields(fields)}
	if base != nil {
		p.RedirectHTTPS, p.MovedPermanently = base.RedirectHTTPS, base.MovedPermanently
		p.HSTS, p.CanonicalHost = base.HSTS, base.CanonicalHost
	}
	left := len(fields)
	for _, k := range policyKeys {
		text, ok := fields[k.Name]
		if !ok {
			continue
		}
		left--
		if err := k.parse(p, strings.TrimSpace(text)); err != nil {
			mistake(fieldError{k.Name, err})
		}
	}
	if left > 0 {
		for name := range fields {
			if !isPolicyKey(name) {
				mistake(unknownField(name))
			}
		}
	}
	p.alone = &extra{policy: p}
	return p
}

func isPolicyKey(name string) bool {
	for _, k := range policyKeys {
		if k.Name == name {
			return true
		}
	}
	return false
}

// fieldError is a field with a value that cannot be used.
type fieldError struct {
	name string
	err  error
}

func (e fieldError) Error() string { return fmt.Sprintf("%s is ignored: %v", e.name, e.err) }

// CheckPolicy says what is wrong with policies for all hosts, as Options.Policy takes them.
func CheckPolicy(fields map[string]string) (err error) {
	newPolicy(nil, fields, func(mistake error) { err = mistake })
	return err
}

// SetPolicy replaces the policy for all hosts, as Options.Policy gives it. It counts at once, for
// policies of hosts that leave something to it too, and also while the store is away. An error says
// what is wrong with it; then nothing changes. It is safe for concurrent use.
func (c *Cache) SetPolicy(fields map[string]string) error {
	if err := CheckPolicy(fields); err != nil {
		return err
	}
	c.everyone.Store(newPolicy(nil, fields, func(error) {}))
	return nil
}

// Policy returns what holds for the host of a route beside its backends, by what the policy for all
// hosts says now. It is never nil and must not be changed. It does not allocate, but for the first
// use of a host's own policy after SetPolicy.
func (c *Cache) Policy(r *Route) *Policy {
	everyone := c.everyone.Load()
	if r.extra == nil || r.extra.policy == nil {
		return everyone
	}
	p := r.extra.policy
	if p.base == everyone {
		return p // Fast path.
	}
	if n := p.newer.Load(); n != nil && n.base == everyone {
		return n
	}
	n := newPolicy(everyone, unpackFields(p.packed), func(error) {}) // What is wrong with the fields was said before.
	p.newer.Store(n)
	return n
}

// parsePolicy makes a policy of a hash.
func (c *Cache) parsePolicy(name string, fields map[string]string) (*Policy, error) {
	return newPolicy(c.everyone.Load(), fields, func(err error) { c.noteHash(policyFamily, name, err) }), nil
}

// policyNames returns the names under which a policy for host may stand, in the order in which they
// count: as for lists.
func policyNames(host string) []string {
	return append([]string{host}, wildcards(host)...)
}

// hasPolicies tells whether policies are looked for under this name at all: a frontend whose name
// holds a port (planb) has none.
func hasPolicies(name string) bool { return name[0] == '[' || strings.IndexByte(name, ':') < 0 }

// policyFromMemory returns the policy of a host if memory holds all that it depends on, nil for that
// of all hosts; until is when it ends by itself. mu is held.
func (c *Cache) policyFromMemory(host string) (p *Policy, until int64, known bool) {
	epoch := c.epoch.Load()
	if c.policies.refused == epoch || c.policies.empty(epoch) || !hasPolicies(host) {
		return nil, never, true
	}
	now := c.now()
	until = never
	for _, name := range policyNames(host) {
		h, ok := c.policies.fresh(name, now)
		if !ok {
			return nil, 0, false
		}
		if h.content != nil {
			return h.content, min(until, h.until), true
		}
	}
	return nil, until, true
}

// carryPolicy gives the value of a new reading its policy, as far as memory holds it: else the one that
// the value before had serves until the next lookup finds the right one. mu is held.
func (c *Cache) carryPolicy(name string, v, old *value) {
	p, until, known := c.policyFromMemory(name)
	switch {
	case known && v.frontend != nil:
		v.gen, v.soft = c.rules.Load(), min(v.soft, tickUntil(until))
	case !known && old != nil:
		p = old.policy()
	}
	v.setPolicy(p)
}

// findPolicy returns the policy of a host, reading what is not in memory, and when it ends by itself.
// known is false if that took too long: then it is the best that is known, or before, the one that the
// host had.
func (c *Cache) findPolicy(host string, before *Policy) (p *Policy, until int64, known bool) {
	c.mu.Lock()
	p, until, known = c.policyFromMemory(host)
	c.mu.Unlock()
	if known {
		return p, until, true
	}
	always := func() bool { return true } // The host's own lookup was let through.
	h, err := c.policies.first(policyNames(host), always, func(string, *Policy) bool { return true })
	switch {
	case h != nil:
		return h.content, h.until, err == nil
	case err == nil:
		return nil, never, true
	default:
		return before, never, false
	}
}

// givePolicy returns the value v of e with the policy of its name, which it had none of yet, and keeps
// it if all of that was certain and nothing has changed meanwhile.
func (c *Cache) givePolicy(e *entry, v *value) *value {
	// Read before what it covers: a change from here on leaves the value outdated.
	rules := c.rules.Load()
	p, until, known := c.findPolicy(e.name(), v.policy())
	w := *v
	w.setPolicy(p)
	if !known {
		return &w
	}
	w.gen, w.soft = rules, min(w.soft, tickUntil(until))
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.value.Load() == v && c.table.findString(e.name()) == e {
		c.replace(e, &w)
	}
	return &w
}

// policyChanged has the policy found anew of each host that may depend on a name. mu is held.
func (c *Cache) policyChanged(name string) {
	if name[0] == '*' {
		c.rulesChanged()
		return
	}
	if e := c.table.findString(name); e != nil {
		w := *e.value.Load()
		w.gen = 0
		e.value.Store(&w)
	}
}

// extra is what few names have. It is immutable.
type extra struct {
	dead   *deadSet // nil means empty
	policy *Policy  // nil means that of all hosts, as it is at the time
}

func (v *value) dead() *deadSet {
	if v.extra == nil {
		return nil
	}
	return v.extra.dead
}

func (v *value) policy() *Policy {
	if v.extra == nil {
		return nil
	}
	return v.extra.policy
}

// setDead and setPolicy change a value that is not published yet.
func (v *value) setDead(d *deadSet)  { v.extra = newExtra(d, v.policy()) }
func (v *value) setPolicy(p *Policy) { v.extra = newExtra(v.dead(), p) }

func newExtra(d *deadSet, p *Policy) *extra {
	switch {
	case d != nil:
		return &extra{dead: d, policy: p}
	case p != nil:
		return p.alone
	}
	return nil
}
