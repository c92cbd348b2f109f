package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"sluice/internal/redistest"
)

// TestStress_OneReadForManyCallers asks for one unknown name from many sides at once.
func TestStress_OneReadForManyCallers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	c := start(t, Options{Driver: []string{s.URL()}})
	s.Do("CONFIG", "RESETSTAT")
	s.Stop()
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if got := answer(c, "a.example"); got != "10.0.0.1" && got != "unavailable" {
				t.Errorf("got %q", got)
			}
		})
	}
	eventually(t, "the read is in flight", func() bool { return len(c.slots) == 1 })
	s.Continue()
	callers.Wait()
	if stats := s.Text("INFO", "commandstats"); !strings.Contains(stats, "cmdstat_lrange:calls=1,") {
		t.Errorf("more than one read:\n%s", stats)
	}
}

// TestStress_TableUnderGrowthAndRemoval reads while entries come and go.
func TestStress_TableUnderGrowthAndRemoval(t *testing.T) {
	t.Parallel()
	table := newTable()
	kept := make([]string, 200)
	for i := range kept {
		kept[i] = fmt.Sprintf("kept%d", i)
		table.insert(table.newEntry(kept[i], &value{}))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				name := kept[rand.IntN(len(kept))]
				if e := table.find([]byte(name)); e != nil && e.name != name {
					t.Errorf("looked for %s and found %s", name, e.name)
					return
				}
				if table.findString(name) == nil {
					t.Errorf("%s was not found, though it was there all the time", name)
					return
				}
			}
		})
	}
	var live []*entry
	for i := range 60_000 {
		e := table.newEntry(fmt.Sprintf("e%d", i), &value{})
		table.insert(e)
		live = append(live, e)
		if i%3 == 0 {
			j := rand.IntN(len(live))
			table.remove(live[j])
			live[j] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	close(done)
	readers.Wait()
	for _, e := range live {
		if table.findString(e.name) != e {
			t.Fatalf("%s was lost", e.name)
		}
	}
	for _, name := range kept {
		if table.findString(name) == nil {
			t.Fatalf("%s was lost", name)
		}
	}
}
