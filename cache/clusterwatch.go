package cache

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// clusterSupervisor keeps a watch on every master and turns what happens to them into views and
// epochs. Only its run touches it.
type clusterSupervisor struct {
	s       *clusterStore
	known   *clusterMap
	members map[string]*member
	up      bool // the sink believes that changes are announced
	cause   error
}

// member is a master that is watched, or that a watch is tried on.
type member struct {
	// Immutable.
	address string
	stop    context.CancelFunc

	// The supervisor's own.
	link  *link // nil while it is away
	tried bool
	since time.Time // when it went away
}

func newClusterSupervisor(s *clusterStore) *clusterSupervisor {
	return &clusterSupervisor{s: s, members: map[string]*member{}, cause: errNoMap}
}

func (c *clusterSupervisor) run(ctx context.Context) {
	var watches sync.WaitGroup
	defer watches.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.s.events:
			if c.take(ctx, e, &watches) {
				c.announce()
			}
		}
	}
}

// take notes an event and tells whether it changes where reads go or what is announced.
func (c *clusterSupervisor) take(ctx context.Context, e event, watches *sync.WaitGroup) bool {
	m := e.member
	if m == nil {
		return c.takeSurvey(ctx, e, watches)
	}
	if c.members[m.address] != m {
		return false // the map dropped it meanwhile
	}
	first, wasUp := !m.tried, m.link != nil
	m.tried, m.link = true, e.link
	switch {
	case e.link != nil:
		if !first {
			c.s.log.Info("cluster node serves", "address", m.address)
		}
		return true
	case wasUp || first:
		m.since = time.Now()
		c.cause = e.err
		c.s.log.Warn("cluster node is away, its slots are served as known", "address", m.address, "cause", e.err)
		c.s.ask()
		return true
	}
	return !c.up
}

// takeSurvey notes a survey: it begins watches on new masters and ends those on old ones.
func (c *clusterSupervisor) takeSurvey(ctx context.Context, e event, watches *sync.WaitGroup) bool {
	if e.found == nil {
		c.cause = e.err
		return !c.up
	}
	if e.found.equal(c.known) {
		return false
	}
	if c.known != nil {
		c.s.log.Info("map of the cluster has changed", "masters", len(e.found.masters))
	}
	c.known = e.found
	for address, m := range c.members {
		if e.found.find(address) < 0 {
			m.stop()
			delete(c.members, address)
		}
	}
	for _, master := range e.found.masters {
		if c.members[master.address] == nil {
			watchCtx, stop := context.WithCancel(ctx)
			m := &member{address: master.address, stop: stop, since: time.Now()}
			c.members[m.address] = m
			watches.Go(func() { c.s.watchMember(watchCtx, m) })
		}
	}
	c.s.forget(e.found)
	return true
}

// announce publishes the present view. At the start it waits until each master was tried, so that
// the first answers know all slots.
func (c *clusterSupervisor) announce() {
	v, watched, settled := c.newView()
	c.s.m.mastersAway.Set(float64(len(v.links) - watched))
	switch {
	case watched == 0 && c.known != nil && !settled && !c.up: // the start is under way
	case watched == 0:
		c.s.publish(v)
		c.s.to.down(c.cause)
		c.up = false
	case c.up || settled:
		// The view first: what is read in the new epoch goes by it.
		c.s.publish(v)
		c.s.to.down(nil)
		c.s.to.up()
		c.up = true
	}
}

// newView puts the view together; watched counts the masters that serve, and settled tells that
// each master was tried.
func (c *clusterSupervisor) newView() (v *clusterView, watched int, settled bool) {
	v, settled = &clusterView{clusterMap: &clusterMap{}}, true
	if c.known == nil {
		return v, 0, false
	}
	v.clusterMap = c.known
	for _, master := range c.known.masters {
		m := c.members[master.address]
		v.links, v.since = append(v.links, m.link), append(v.since, m.since)
		settled = settled && m.tried
		if m.link != nil {
			watched++
		}
	}
	return v, watched, settled
}

// watchMember keeps a watch on one master until ctx ends.
func (s *clusterStore) watchMember(ctx context.Context, m *member) {
	n := s.nodeAt(m.address)
	for failures := 0; ctx.Err() == nil; {
		failures++
		client, err := n.connected()
		if err != nil {
			err = fmt.Errorf("watch: %w", err)
		} else {
			err = s.stand(ctx, client, m.address, func(l *link) {
				failures = 0
				s.send(ctx, event{member: m, link: l})
			})
		}
		s.send(ctx, event{member: m, err: err})
		pause(ctx, failures)
	}
}
