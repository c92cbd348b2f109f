package httpcases

import (
	"fmt"
	"sync"
)

// Lane is a proxy under test with the backend behind it.
type Lane struct {
	Front   string // address of the proxy, "host:port"
	Backend *Backend
}

// Result is the outcome of one case.
type Result struct {
	Case *Case
	// Faults are the expectations that did not hold; a case without any has passed.
	Faults []string
	// Summary is what was seen on both sides, in a line.
	Summary string
}

// Passed tells whether all expectations held.
func (r Result) Passed() bool { return len(r.Faults) == 0 }

// String is the result in a line.
func (r Result) String() string {
	if r.Passed() {
		return fmt.Sprintf("%s passed: %s (%s)", r.Case.ID, r.Case.Title, r.Summary)
	}
	return fmt.Sprintf("%s failed: %s: %q (%s)", r.Case.ID, r.Case.Title, r.Faults, r.Summary)
}

// Play plays cases, each lane one at a time, and returns the results in the order of the cases. A
// case takes a quarter of a second and more, most of it waiting; about four lanes suit two cores.
func Play(lanes []Lane, cases []*Case) []Result {
	results := make([]Result, len(cases))
	next := make(chan int)
	var players sync.WaitGroup
	for _, lane := range lanes {
		players.Go(func() {
			for i := range next {
				results[i] = lane.play(cases[i])
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	players.Wait()
	return results
}

func (l Lane) play(c *Case) Result {
	s := l.Backend.begin(c)
	defer l.Backend.end(s)
	player := &client{front: l.Front, play: c, behind: s.behind}
	g, err := player.run(func(g got) bool { return len(judge(c, s.seen(), g)) == 0 })
	if err != nil {
		return Result{Case: c, Faults: []string{err.Error()}}
	}
	seen := s.seen()
	return Result{
		Case:   c,
		Faults: judge(c, seen, g),
		Summary: fmt.Sprintf("statuses %v, closed %v, whole %v; backend requests %d, bodies %d, connections %d",
			g.statuses, g.closed, g.whole, seen.requests, seen.bodies, seen.connections),
	}
}
