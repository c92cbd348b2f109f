package httpcases

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// verdict collects the expectations that do not hold.
type verdict struct{ faults []string }

func (v *verdict) fail(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// judge compares what both sides saw with what the case wants.
func judge(c *Case, s seen, g got) []string {
	v := &verdict{}
	v.backend(&c.WantBackend, s)
	g.statuses = forgive100(g.statuses, c.WantClient.Statuses)
	v.statuses(&c.WantClient, g.statuses)
	v.client(&c.WantClient, g)
	v.times(c, &g)
	slices.Sort(v.faults)
	return v.faults
}

func (v *verdict) backend(want *WantBackend, s seen) {
	v.number("backend requests", s.requests, want.Requests)
	v.number("backend complete bodies", s.bodies, want.Bodies)
	v.number("backend connections", s.connections, want.Connections)
	folded := s.received.lower()
	v.has("backend", folded, lowered(want.Has))
	v.has("backend", s.received, want.HasExact)
	if s.requests > 0 {
		v.has("backend", folded, lowered(want.HasIfAsked))
	}
	v.lacks("backend", folded, lowered(want.Lacks))
	v.lacks("backend", s.received, want.LacksExact)
	v.order("backend", folded, lowered(want.Order))
	if want.SeesClientLeave && !s.clientLeft {
		v.fail("backend connection not closed after the client left")
	}
}

func (v *verdict) statuses(want *WantClient, statuses []int) {
	if want.Statuses != nil && !match(want.Statuses, statuses) {
		v.fail("client statuses %v, want %v", statuses, want.Statuses)
	}
	if want.StatusesAny != nil && !slices.ContainsFunc(want.StatusesAny, func(alternative [][]int) bool {
		return match(alternative, statuses)
	}) {
		v.fail("client statuses %v, want one of %v", statuses, want.StatusesAny)
	}
	if want.LastStatus != nil &&
		(len(statuses) == 0 || !slices.Contains(want.LastStatus, statuses[len(statuses)-1])) {
		v.fail("last status of %v, want %v", statuses, want.LastStatus)
	}
}

func (v *verdict) client(want *WantClient, g got) {
	if want.Closed != nil && *want.Closed != g.closed {
		v.fail("client connection closed: %v, want %v", g.closed, *want.Closed)
	}
	if want.Whole != nil && *want.Whole != g.whole {
		v.fail("client answer complete: %v, want %v (%s)", g.whole, *want.Whole, g.fault)
	}
	if want.CutOr502 && g.whole && !slices.Equal(g.statuses, []int{http.StatusBadGateway}) {
		v.fail("truncated answer looks complete: %v", g.statuses)
	}
	folded := g.bytes.lower()
	v.has("client", folded, lowered(want.Has))
	v.lacks("client", folded, lowered(want.Lacks))
	v.order("client", folded, lowered(want.Order))
	for t, n := range want.Counts {
		if found := strings.Count(string(folded), string(t.lower())); found != n {
			v.fail("client got %q %d times, want %d", t, found, n)
		}
	}
	if len(g.bytes) < want.MinBytes {
		v.fail("client got %d bytes, want at least %d", len(g.bytes), want.MinBytes)
	}
}

// times checks arrivals on the client's last connection.
func (v *verdict) times(c *Case, g *got) {
	for t, ms := range c.WantClient.ArrivesMS {
		if after, ok := g.arrived[t]; !ok || after > milliseconds(ms) {
			v.fail("%q arrived: %v, after %v, want at most %d ms", t, ok, after, ms)
		}
	}
	if c.AnswerMS > 0 && (g.first == 0 || g.first > milliseconds(c.AnswerMS)) {
		v.fail("first byte of the answer after %v, want at most %d ms", g.first, c.AnswerMS)
	}
}

func (v *verdict) number(what string, n int, allowed []int) {
	if allowed != nil && !slices.Contains(allowed, n) {
		v.fail("%s: %d, want %v", what, n, allowed)
	}
}

func (v *verdict) has(who string, all text, list []text) {
	for _, t := range list {
		if !strings.Contains(string(all), string(t)) {
			v.fail("%s lacks %q", who, t)
		}
	}
}

func (v *verdict) lacks(who string, all text, list []text) {
	for _, t := range list {
		if strings.Contains(string(all), string(t)) {
			v.fail("%s got %q", who, t)
		}
	}
}

// order compares the places of first occurrence.
func (v *verdict) order(who string, all text, list []text) {
	bytes, last := string(all), -1
	for _, t := range list {
		i := strings.Index(bytes, string(t))
		if i < 0 || i < last {
			v.fail("%s order broken at %q", who, t)
			return
		}
		last = i
	}
}

// match tells whether each status is among those allowed in its place.
func match(want [][]int, statuses []int) bool {
	return slices.EqualFunc(want, statuses, slices.Contains[[]int])
}

// forgive100 removes interim 100 answers if that makes as many statuses as are wanted: a proxy may
// send them.
func forgive100(statuses []int, want [][]int) []int {
	if want == nil || len(want) == len(statuses) {
		return statuses
	}
	rest := slices.DeleteFunc(slices.Clone(statuses), func(status int) bool {
		return status == http.StatusContinue
	})
	if len(rest) == len(want) {
		return rest
	}
	return statuses
}

func lowered(list []text) []text {
	folded := make([]text, len(list))
	for i, t := range list {
		folded[i] = t.lower()
	}
	return folded
}
