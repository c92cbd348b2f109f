package proxy

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestBudget_Floor(t *testing.T) {
	t.Parallel()
	var b budget
	for i := range budgetFloor {
		if !b.retry("k", 1) {
			t.Fatalf("retry %d of a quiet frontend is refused", i)
		}
	}
	for range 3 {
		if b.retry("k", 1) {
			t.Fatal("a retry beyond the floor is allowed without a request")
		}
	}
}

// With many requests a fifth as many retries are allowed, and a refused retry is not counted as one.
func TestBudget_Share(t *testing.T) {
	t.Parallel()
	var b budget
	for range 10_000 {
		b.request("k", 1)
	}
	allowed := 0
	for range 5000 {
		if b.retry("k", 1) {
			allowed++
		}
	}
	if allowed != 10_000/budgetShare {
		t.Errorf("%d retries allowed for 10000 requests, want %d", allowed, 10_000/budgetShare)
	}
	for range budgetShare {
		b.request("k", 1)
	}
	if !b.retry("k", 1) || b.retry("k", 1) {
		t.Error("five more requests must allow one more retry")
	}
}

func TestBudget_WindowTurns(t *testing.T) {
	t.Parallel()
	var b budget
	first := instant(3 * budgetWindow)
	exhaust := func(at instant) (n int) {
		for b.retry("k", at) {
			n++
		}
		return n
	}
	for range 2000 {
		b.request("k", first)
	}
	if n := exhaust(first); n != 400 {
		t.Fatalf("%d retries in the first window, want 400", n)
	}
	if n := exhaust(first.after(budgetWindow - 1)); n != 0 {
		t.Errorf("%d retries at the window's end, want none", n)
	}
	if n := exhaust(first.after(budgetWindow)); n != budgetFloor {
		t.Errorf("%d retries in the next window, want %d", n, budgetFloor)
	}
	if n := exhaust(first.after(7 * budgetWindow)); n != budgetFloor {
		t.Errorf("%d retries after a pause, want %d", n, budgetFloor)
	}
}

func TestBudget_PerFrontend(t *testing.T) {
	t.Parallel()
	var b budget
	other := ""
	for i := 0; other == "" || slotOf(other) == slotOf("a"); i++ {
		other = fmt.Sprint("b", i)
	}
	for b.retry("a", 1) {
		continue
	}
	if !b.retry(other, 1) {
		t.Error("one frontend's retries use up another's budget")
	}
}

// Racing goroutines may be refused while others give back; they must never be allowed more than the budget.
func TestBudget_Concurrent(t *testing.T) {
	t.Parallel()
	var b budget
	var wg sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 8 {
		wg.Go(func() {
			n := 0
			for range 1000 {
				if b.retry("k", 1) {
					n++
				}
			}
			mu.Lock()
			allowed += n
			mu.Unlock()
		})
	}
	wg.Wait()
	if allowed != budgetFloor {
		t.Errorf("%d retries allowed, want %d", allowed, budgetFloor)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	var r rotation
	var wg sync.WaitGroup
	const each = 1000
	seen := make([][]uint64, 4)
	for i := range seen {
		wg.Go(func() {
			for range each {
				seen[i] = append(seen[i], r.next("k"))
			}
		})
	}
	wg.Wait()
	had := map[uint64]bool{}
	for _, turns := range seen {
		for _, turn := range turns {
			if had[turn] {
				t.Fatalf("turn %d was given twice", turn)
			}
			had[turn] = true
		}
	}
	if next := r.next("k"); next != 4*each+1 {
		t.Errorf("next turn is %d, want %d", next, 4*each+1)
	}
}

func TestSlotOf(t *testing.T) {
	t.Parallel()
	used := map[int]bool{}
	for i := range 100_000 {
		key := fmt.Sprintf("host-%d.example", i)
		slot := slotOf(key)
		if slot < 0 || slot >= slots || slot != slotOf(key) {
			t.Fatalf("%s: slot %d", key, slot)
		}
		used[slot] = true
	}
	if len(used) != slots {
		t.Errorf("%d of %d slots used by 100000 hosts", len(used), slots)
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	var h throttle
	count := func(k Kind, at instant) (n int) {
		for range 5 * logBurst {
			if h.allow(k, at) {
				n++
			}
		}
		return n
	}
	start := instant(5 * logWindow)
	if n := count(KindBackendReset, start); n != logBurst {
		t.Errorf("%d lines in a window, want %d", n, logBurst)
	}
	if n := count(KindBackendReset, start.after(logWindow-time.Nanosecond)); n != 0 {
		t.Errorf("%d more lines in the same window", n)
	}
	if n := count(KindNoBackend, start); n != logBurst {
		t.Errorf("%d lines of another kind, want %d", n, logBurst)
	}
	if n := count(KindBackendReset, start.after(logWindow)); n != logBurst {
		t.Errorf("%d lines in the next window, want %d", n, logBurst)
	}
}
