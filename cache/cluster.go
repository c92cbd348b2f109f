package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// surveyInterval is how often nodes are asked who has which slots.
	surveyInterval = time.Second
	// surveyPause is the least time between two surveys.
	surveyPause = 100 * time.Millisecond
	// memberGrace is how long a read waits for a master that was lost: long enough for a connection
	// that was cut, short enough for known hosts, whose lookups wait for it once.
	memberGrace = 20 * time.Millisecond
	// surveyTimeout bounds one survey.
	surveyTimeout = 500 * time.Millisecond
	// maxSurveyed is how many nodes one survey asks, so that it does not grow with the Cluster.
	maxSurveyed = 5
)

// errNoMap is what a Cluster is away for when no node has told its map.
var errNoMap = errors.New("no node tells the map of the cluster")

// clusterStore is a Redis Cluster. A watch stands on every master, so a slot that moves between
// them loses no push; each change of the map or of the masters that are watched begins a new epoch.
// The client library's own Cluster mode would move reads to a node before the watch stands there.
//
// A master that is away takes with it only what has slots there: its names are served as they are
// known, all others go on.
type clusterStore struct {
	redisWatcher

	// Immutable after start.
	driver *driver
	begun  time.Time
	asked  chan struct{} // capacity 1: survey now
	events chan event

	view atomic.Pointer[clusterView]

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	nodes   map[string]*node
	asking  map[string]bool
}

// clusterView is what reads go by. It is immutable.
type clusterView struct {
	*clusterMap
	links []*link     // per master; nil while it is away
	since []time.Time // when it went away
}

// event tells the supervisor what happened to a watch, or what a survey found.
type event struct {
	member *member     // nil: it is a survey
	link   *link       // of a watch that stands now
	err    error       // of one that ended or failed, or of a survey
	found  *clusterMap // by a survey
}

func newClusterStore(d *driver, o *Options, m *counters) *clusterStore {
	s := &clusterStore{
		redisWatcher: newRedisWatcher(d, o, m),
		driver:       d,
		asked:        make(chan struct{}, 1),
		events:       make(chan event),
		changed:      make(chan struct{}),
		nodes:        map[string]*node{},
		asking:       map[string]bool{},
	}
	s.view.Store(&clusterView{clusterMap: &clusterMap{}})
	return s
}

func (s *clusterStore) start(ctx context.Context, to sink) error {
	s.to, s.begun = to, time.Now()
	s.runs.Go(func() { s.survey(ctx) })
	s.runs.Go(func() { newClusterSupervisor(s).run(ctx) })
	return nil
}

func (s *clusterStore) close() {
	s.runs.Wait()
	for _, n := range s.nodes {
		n.close()
	}
}

// nodeAt returns the node at an address.
func (s *clusterStore) nodeAt(address string) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[address]
	if n == nil {
		n = newNode(s.driver, address)
		s.nodes[address] = n
	}
	return n
}

// forget closes the connections to nodes that neither the map nor the driver names.
func (s *clusterStore) forget(m *clusterMap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, n := range s.nodes {
		if m.find(address) < 0 && !slices.Contains(s.driver.addresses, address) {
			delete(s.nodes, address)
			// A node that is being dialled keeps its lock until that ends.
			s.runs.Go(n.close)
		}
	}
}

// ask makes the next survey begin now.
func (s *clusterStore) ask() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// publish makes v what reads go by.
func (s *clusterStore) publish(v *clusterView) {
	s.view.Store(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// awaitView waits for the next view, at most for d.
func (s *clusterStore) awaitView(ctx context.Context, seen *clusterView, d time.Duration) bool {
	s.mu.Lock()
	changed := s.changed
	s.mu.Unlock()
	if s.view.Load() != seen {
		return true
	}
	return d > 0 && awaitChange(ctx, changed, d)
}

// send hands an event to the supervisor.
func (s *clusterStore) send(ctx context.Context, e event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// survey asks some nodes for the map, at each interval and whenever a read was redirected.
func (s *clusterStore) survey(ctx context.Context) {
	tick := time.NewTicker(surveyInterval)
	defer tick.Stop()
	var last []claim
	for ctx.Err() == nil {
		found, err := s.surveyOnce(ctx, &last)
		s.send(ctx, event{found: found, err: err})
		if err != nil {
			awaitChange(ctx, nil, maxBackoff)
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.asked:
			// A Cluster that redirects everything must not be asked without a pause.
			awaitChange(ctx, nil, surveyPause)
		}
	}
}

// surveyOnce asks some nodes at once. last is what the map was made of before: nodes that were not
// asked this time know no less than they did.
func (s *clusterStore) surveyOnce(ctx context.Context, last *[]claim) (*clusterMap, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	addresses := s.contacts()
	type answer struct {
		claims []claim
		err    error
	}
	answers := make(chan answer, len(addresses))
	for _, address := range addresses {
		s.runs.Go(func() {
			defer s.doneAsking(address)
			claims, err := s.claimsOf(ctx, address)
			answers <- answer{claims, err}
		})
	}
	var views [][]claim
	err := errNoMap
	for range addresses {
		select {
		case a := <-answers:
			if a.err != nil {
				err = a.err
			} else {
				views = append(views, a.claims)
			}
		case <-ctx.Done():
		}
	}
	if len(views) == 0 {
		return nil, err
	}
	m := mergeClaims(append(views, stillKnown(*last, views)))
	*last = m.claims()
	return m, nil
}

// stillKnown returns those of the claims whose nodes somebody still calls masters.
func stillKnown(last []claim, views [][]claim) []claim {
	return slices.DeleteFunc(slices.Clone(last), func(old claim) bool {
		return !slices.ContainsFunc(views, func(view []claim) bool {
			return slices.ContainsFunc(view, func(c claim) bool { return c.id == old.id && c.isMaster })
		})
	})
}

// contacts picks whom to ask: some of the masters, or, before any is known, whom the driver names.
// Those that still owe an answer are left out.
func (s *clusterStore) contacts() []string {
	var addresses []string
	v := s.view.Load()
	for i, l := range v.links {
		if l != nil {
			addresses = append(addresses, v.masters[i].address)
		}
	}
	if len(addresses) < maxSurveyed {
		addresses = append(addresses, s.driver.addresses...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	s.mu.Lock()
	defer s.mu.Unlock()
	addresses = slices.DeleteFunc(addresses, func(address string) bool { return s.asking[address] })
	addresses = addresses[:min(len(addresses), maxSurveyed)]
	for _, address := range addresses {
		s.asking[address] = true
	}
	return addresses
}

func (s *clusterStore) doneAsking(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asking, address)
}

// claimsOf asks one node.
func (s *clusterStore) claimsOf(ctx context.Context, address string) ([]claim, error) {
	client, err := s.nodeAt(address).connected()
	if err != nil {
		return nil, err
	}
	var text string
	for range 2 { // the first command may find a connection that was lost meanwhile
		text, err = client.Do(ctx, client.B().Arbitrary("CLUSTER", "NODES").Build()).ToString()
		if err == nil || isReply(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for the map of the cluster: %w", address, err)
	}
	host, _, err := net.SplitHostPort(address)
	return parseClaims(text, host, s.driver.secure), err
}

// linkOf returns what reads of a slot go through. Shortly after a loss it waits for the next.
func (s *clusterStore) linkOf(ctx context.Context, slot uint16) (*link, error) {
	for {
		v := s.view.Load()
		i := int(v.owner[slot]) - 1
		if i >= 0 && v.links[i] != nil {
			return v.links[i], nil
		}
		s.ask() // another node may have the slot by now
		left := time.Until(s.begun.Add(connectGrace))
		if i >= 0 {
			left = max(left, time.Until(v.since[i].Add(memberGrace)))
		}
		if !s.awaitView(ctx, v, left) {
			return nil, errDown
		}
	}
}

// linkAt returns what reads of the master at an address go through; nil while there is nothing.
func (s *clusterStore) linkAt(address string) *link {
	v := s.view.Load()
	if i := v.find(address); i >= 0 {
		return v.links[i]
	}
	return nil
}

// clientOf returns the client for a key's slot, for commands that no redirection is followed for.
func (s *clusterStore) clientOf(ctx context.Context, key string) (rueidis.CommandClient, error) {
	l, err := s.linkOf(ctx, slotOf(key))
	if err != nil {
		return nil, err
	}
	return l.client, nil
}

func (s *clusterStore) mark(ctx context.Context, m mark) (outcome markOutcome, err error) {
	var at markTargets
	if at.list, err = s.clientOf(ctx, s.prefix+frontendKey+m.key); err != nil {
		return 0, err
	}
	if at.dead, err = s.clientOf(ctx, s.prefix+deadKey+m.host); err != nil {
		return 0, err
	}
	if at.checker, err = s.clientOf(ctx, checkerKey); err != nil {
		at.checker = nil
	}
	outcome, err = s.markOn(ctx, at, m)
	if errors.Is(err, errDown) {
		s.ask()
	}
	return outcome, err
}

func (s *clusterStore) checker(ctx context.Context) (int64, error) {
	client, err := s.clientOf(ctx, checkerKey)
	if err != nil {
		return 0, err
	}
	return checkerSeen(client.Do(ctx, client.B().Get().Key(checkerKey).Build()))
}

func (s *clusterStore) ping(ctx context.Context) error {
	for _, l := range s.view.Load().links {
		if l != nil {
			if err := l.client.Do(ctx, l.client.B().Ping().Build()).Error(); err != nil {
				return fmt.Errorf("ping %s: %w", l.address, err)
			}
			return nil
		}
	}
	return fmt.Errorf("ping redis: %w", errDown)
}
