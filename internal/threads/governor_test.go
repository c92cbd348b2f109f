package threads

import "testing"

// A machine says what a look finds there while this process has so many threads.
type machine func(threads int) look

// crowdedTwo is two cores that clients, a backend and this process fill together: one core's work is ours.
func crowdedTwo(threads int) look {
	if threads == 1 {
		return look{used: 0.98, waiting: 0.03, done: 87_000}
	}
	return look{used: 0.97, waiting: 0.96, done: 82_000}
}

// besideTwoThatCompute is two cores of which everybody gets the same share.
func besideTwoThatCompute(threads int) look {
	if threads == 1 {
		return look{used: 0.67, waiting: 0.33, done: 60_000}
	}
	return look{used: 1, waiting: 1, done: 80_000}
}

// besideOneThatComputes has more work than one core does, and somebody else has the other one.
func besideOneThatComputes(threads int) look {
	if threads == 1 {
		return look{used: 0.99, waiting: 0.01, done: 85_000}
	}
	return look{used: 1.33, waiting: 0.67, done: 110_000}
}

// uncounted is crowdedTwo with work that is no requests.
func uncounted(threads int) look {
	l := crowdedTwo(threads)
	l.done = 0
	return l
}

// thousandConnections are served faster by two threads, although both share a core with each other.
func thousandConnections(threads int) look {
	if threads == 1 {
		return look{used: 0.99, waiting: 0.02, done: 52_000}
	}
	return look{used: 0.98, waiting: 0.9, done: 61_000}
}

func quiet(int) look { return look{used: 0.3, idle: 1.6} }

// bothBusy needs both cores, and has them.
func bothBusy(threads int) look {
	if threads == 1 {
		return look{used: 1, idle: 0.9}
	}
	return look{used: 1.9, waiting: 0.1, idle: 0.02}
}

// large is 64 cores, all taken, a third by us.
func large(threads int) look {
	return look{used: min(20.3, float64(threads)), waiting: max(float64(threads)-20.3, 0) * 0.9, idle: 0.1}
}

// play lets a governor look at a machine for some looks, and returns how many of them it spent with
// which number of threads, and how often it changed that.
func play(g *governor, m machine, looks int) (spent map[int]int, changes int) {
	spent = map[int]int{}
	for range looks {
		was := g.threads
		spent[was]++
		if g.next(m(was)) != was {
			changes++
		}
	}
	return spent, changes
}

func TestGovernor_Settles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		machine     machine
		most, want  int
		changesMost int // in a thousand looks
	}{
		"all cores taken":            {crowdedTwo, 2, 1, 20},
		"no requests, all the same":  {uncounted, 2, 1, 20},
		"a thousand connections":     {thousandConnections, 2, 2, 20},
		"beside two that compute":    {besideTwoThatCompute, 2, 2, 20},
		"beside one that computes":   {besideOneThatComputes, 2, 2, 1},
		"little to do":               {quiet, 2, 2, 0},
		"enough to do for all cores": {bothBusy, 2, 2, 0},
		"a third of 64 cores":        {large, 64, 21, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGovernor(tt.most)
			spent, changes := play(g, tt.machine, 1000)
			if spent[tt.want] < 950 {
				t.Errorf("looks with each number of threads: %v, want nearly all with %d", spent, tt.want)
			}
			if changes > tt.changesMost {
				t.Errorf("%d changes in 1000 looks, want at most %d", changes, tt.changesMost)
			}
		})
	}
}

// What was let go comes back as soon as it is of use.
func TestGovernor_TakesThreadsBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		then  machine
		looks int
	}{
		"a core is free":                {quiet, 1},
		"work for both cores":           {bothBusy, 1},
		"others take the cores":         {besideTwoThatCompute, 1},
		"more work, others where it is": {besideOneThatComputes, minPatience + agreement + trialLooks},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGovernor(2)
			for looks := 0; g.threads != 1; looks++ {
				if looks > 10 {
					t.Fatal("no thread was let go")
				}
				g.next(crowdedTwo(g.threads))
			}
			for range tt.looks {
				g.next(tt.then(g.threads))
			}
			if g.threads != 2 {
				t.Errorf("got %d threads after %d looks, want 2", g.threads, tt.looks)
			}
		})
	}
}

func TestGovernor_FollowsTheLimitOfTheProcess(t *testing.T) {
	t.Parallel()
	g := newGovernor(8)
	g.allowed(4)
	if got := g.next(quiet(4)); got != 4 {
		t.Errorf("got %d threads, want the 4 that are allowed", got)
	}
	play(g, crowdedTwo, agreement)
	if g.threads != 1 {
		t.Fatalf("got %d threads, want 1", g.threads)
	}
	g.allowed(1) // our own doing
	if got := g.next(quiet(1)); got != 4 {
		t.Errorf("got %d threads on a quiet machine, want 4", got)
	}
}
