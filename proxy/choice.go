package proxy

import (
	"math/rand/v2"

	"sluice/cache"
)

// chooser picks one of the live backends of a route. It changes nothing: random numbers, rotation and load come in from
// outside, so that a choice can be repeated in a test.
type chooser struct {
	balance Balance
	random  func(n int) int              // uniform in [0, n)
	turn    func() uint64                // next number of the frontend's rotation
	load    func(b *cache.Backend) int64 // requests in flight to the backend
	allowed func(b *cache.Backend) bool  // not tried yet
	route   *cache.Route
}

// noBackend is what choose returns when nothing can be chosen.
const noBackend = -1

// candidate reports whether backend i may be chosen.
func (c *chooser) candidate(i int) bool {
	b := &c.route.Frontend().Backends[i]
	return b.Err == nil && c.route.Alive(i) && c.allowed(b)
}

// weigh returns the number of candidates, the sum of their weights, and one of them.
func (c *chooser) weigh() (n, weight, last int) {
	last = noBackend
	list := c.route.Frontend().Backends
	for i := range list {
		if c.candidate(i) {
			n, weight, last = n+1, weight+list[i].Weight, i
		}
	}
	return n, weight, last
}

// choose returns the index of the chosen backend, or noBackend.
func (c *chooser) choose() int {
	switch c.balance {
	case BalanceLeastConn: // It has to look at every backend.
	case BalanceRoundRobin:
		if i := c.next(); i != noBackend {
			return i
		}
	case BalanceP2C:
		if i, j := c.draw(), c.draw(); i != noBackend && j != noBackend {
			return c.lessLoaded(i, j)
		}
	default:
		if i := c.draw(); i != noBackend {
			return i
		}
	}
	n, weight, last := c.weigh()
	if n < 2 {
		return last
	}
	switch c.balance {
	case BalanceRoundRobin:
		return c.at(int(c.turn() % uint64(weight)))
	case BalanceLeastConn:
		return c.leastLoaded(c.random(weight))
	case BalanceP2C:
		return c.lessLoaded(c.at(c.random(weight)), c.at(c.random(weight)))
	}
	return c.at(c.random(weight))
}

// Drawing: with fewer than manyBackends looking at all of them is cheap, and after maxDraws in vain most
// of them are dead, or light beside a heavy one.
const (
	manyBackends = 8
	maxDraws     = 16
)

// draw returns a candidate at random, in proportion to the weights, or noBackend if that takes a look at
// all backends. Each draw takes one of all with equal chances and keeps it, if it is a candidate, with the
// chance that its weight has beside the heaviest: so the choice among a thousand costs what it costs among
// ten.
func (c *chooser) draw() int {
	f := c.route.Frontend()
	n, heaviest := len(f.Backends), f.Heaviest()
	if n < manyBackends {
		return noBackend
	}
	for range maxDraws {
		i := c.random(n)
		weight := f.Backends[i].Weight
		if c.candidate(i) && (weight == heaviest || c.random(heaviest) < weight) {
			return i
		}
	}
	return noBackend
}

// next returns the candidate whose turn it is among many of equal weight, or noBackend. One that is no
// candidate loses its turn.
func (c *chooser) next() int {
	f := c.route.Frontend()
	n := len(f.Backends)
	if n < manyBackends || f.Heaviest() > 1 {
		return noBackend
	}
	for range maxDraws {
		if i := int(c.turn() % uint64(n)); c.candidate(i) {
			return i
		}
	}
	return noBackend
}

// at returns the candidate in whose share of the summed weights the point lies.
func (c *chooser) at(point int) int {
	list := c.route.Frontend().Backends
	for i := range list {
		if c.candidate(i) {
			if point -= list[i].Weight; point < 0 {
				return i
			}
		}
	}
	return noBackend
}

// leastLoaded returns the candidate with the least load for its weight; from is where the search starts, so that equals
// take turns.
func (c *chooser) leastLoaded(point int) int {
	best := c.at(point)
	for i := range c.route.Frontend().Backends {
		if c.candidate(i) && c.lighter(i, best) {
			best = i
		}
	}
	return best
}

func (c *chooser) lessLoaded(i, j int) int {
	if c.lighter(j, i) {
		return j
	}
	return i
}

// lighter reports whether i has less load for its weight than j.
func (c *chooser) lighter(i, j int) bool {
	a, b := &c.route.Frontend().Backends[i], &c.route.Frontend().Backends[j]
	return c.load(a)*int64(b.Weight) < c.load(b)*int64(a.Weight)
}

// pick chooses the backend of the next attempt: never one that was tried while another lives.
func (x *exchange) pick() Error {
	f := x.route.Frontend()
	c := chooser{
		balance: x.cfg.Balance, random: rand.IntN, turn: x.nextTurn, load: x.srv.pools.load,
		allowed: x.untried, route: &x.route,
	}
	i := c.choose()
	if i == noBackend && len(x.tried) == 1 {
		// The only live backend may be tried once more.
		c.allowed = func(*cache.Backend) bool { return true }
		i = c.choose()
	}
	if i == noBackend {
		return failed(x.noBackendKind())
	}
	x.index, x.backend = i, &f.Backends[i]
	return Error{}
}

// noBackendKind tells an all-dead or empty frontend from one whose elements can't be used.
func (x *exchange) noBackendKind() Kind {
	list := x.route.Frontend().Backends
	for i := range list {
		if list[i].Err == nil {
			return KindNoBackend
		}
	}
	if len(list) == 0 {
		return KindNoBackend
	}
	return KindBackendInvalid
}

// untried reports whether no attempt of this exchange went to b.
func (x *exchange) untried(b *cache.Backend) bool {
	for _, key := range x.tried {
		if key == b.Key {
			return false
		}
	}
	return true
}

// nextTurn returns the next number of the frontend's rotation.
func (x *exchange) nextTurn() uint64 {
	return x.srv.rotation.next(x.route.Frontend().Key)
}
