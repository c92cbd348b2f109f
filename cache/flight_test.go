package cache

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// scriptedStore is a store whose replies are given by the test: one at a time, or the same to all reads.
type scriptedStore struct {
	asked   chan string
	replies chan reading
	holds   atomic.Pointer[reading] // nil: replies
}

func newScripted(t *testing.T) (*Cache, *scriptedStore) {
	t.Helper()
	c, err := New(Options{Driver: []string{"file:unused.json"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptedStore{asked: make(chan string, 16), replies: make(chan reading, 16)}
	c.store.close()
	c.store = s
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

func (s *scriptedStore) start(_ context.Context, to sink) error { to.up(); return nil }
func (s *scriptedStore) read(ctx context.Context, name string, _ bool) (reading, error) {
	if name != "a.example" {
		return reading{}, nil // no wildcards
	}
	if r := s.holds.Load(); r != nil {
		return *r, nil
	}
	select {
	case s.asked <- name:
	case <-ctx.Done():
		return reading{}, ctx.Err()
	}
	select {
	case r := <-s.replies:
		return r, nil
	case <-ctx.Done():
		return reading{}, ctx.Err()
	}
}

func (s *scriptedStore) readHash(context.Context, family, string) (hashReading, error) {
	return hashReading{}, nil
}
func (s *scriptedStore) names(context.Context, func(family, string) error) error { return nil }
func (s *scriptedStore) mark(context.Context, mark) (markOutcome, error)         { return markKept, nil }
func (s *scriptedStore) checker(context.Context) (int64, error)                  { return 0, nil }
func (s *scriptedStore) ping(context.Context) error                              { return nil }
func (s *scriptedStore) close()                                                  {}

// awaitAsked returns when the store was asked once more.
func (s *scriptedStore) awaitAsked(t *testing.T) {
	t.Helper()
	select {
	case <-s.asked:
	case <-time.After(5 * time.Second):
		t.Fatal("the store was not asked")
	}
}

// A read that saw a list between DEL and RPUSH, and is overtaken by a later read that saw the whole
// of it, must not answer those who wait for it with nothing.
func TestFlight_OvertakenReadOfATornListAnswersWithTheNewerOne(t *testing.T) {
	t.Parallel()
	c, s := newScripted(t)
	s.replies <- reading{list: []string{"a", "http://10.0.0.1"}}
	wantAnswer(t, c, "a.example", "http://10.0.0.1")
	s.awaitAsked(t)

	c.listChanged("a.example") // DEL
	torn := make(chan string, 1)
	go func() { torn <- answer(c, "a.example") }()
	s.awaitAsked(t) // the torn read is on its way

	c.mu.Lock()
	early := c.flights["a.example"]
	c.mu.Unlock()
	c.listChanged("a.example") // RPUSH: the read on its way is dirty now

	late := make(chan string, 1)
	go func() { late <- answer(c, "a.example") }()
	s.awaitAsked(t)
	c.mu.Lock()
	later := c.flights["a.example"]
	c.mu.Unlock()
	if early == later {
		t.Fatal("a dirty read was joined")
	}

	// Settle the later read first, then the torn one, in the order in which the race had them.
	fresh, empty := reading{list: []string{"a", "http://10.0.0.2"}}, reading{}
	settle := func(f *flight[settled], r reading) {
		c.mu.Lock()
		_, v := c.settle(f, &r, c.parseReading(f.name, &r))
		c.mu.Unlock()
		if v.frontend == nil || len(v.frontend.Backends) != 1 {
			t.Errorf("a reader that waits for the read of %v gets %+v, want a list", r.list, v.frontend)
		} else if got := v.frontend.Backends[0].URL; got != "http://10.0.0.2" {
			t.Errorf("a reader that waits for the read of %v gets %s, want the newer list", r.list, got)
		}
	}
	settle(later, fresh)
	settle(early, empty)

	s.replies <- fresh
	s.replies <- fresh
	for _, got := range []chan string{torn, late} {
		select {
		case a := <-got:
			if a != "http://10.0.0.2" {
				t.Errorf("lookup = %s, want http://10.0.0.2", a)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a lookup did not return")
		}
	}
}

// What changed while the watch was away was never announced, so nothing of the time before counts
// as fresh afterwards. The same holds for a push that says that everything may have changed.
func TestEpoch_NothingOfTheTimeBeforeStaysFresh(t *testing.T) {
	t.Parallel()
	c, s := newScripted(t)
	holds := func(url string) { s.holds.Store(&reading{list: []string{"a", url}}) }
	holds("http://10.0.0.1")
	wantAnswer(t, c, "a.example", "http://10.0.0.1")

	c.down(errDown)
	holds("http://10.0.0.2")
	wantAnswer(t, c, "a.example", "http://10.0.0.1") // from memory: nothing was announced
	c.up()
	awaitAnswer(t, c, "a.example", "http://10.0.0.2")

	holds("http://10.0.0.3")
	c.flushed()
	awaitAnswer(t, c, "a.example", "http://10.0.0.3")

	holds("http://10.0.0.4")
	c.up() // another node took over without a gap
	awaitAnswer(t, c, "a.example", "http://10.0.0.4")
}
