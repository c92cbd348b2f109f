package cache

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// noteSpan is how long one mistake in the store is not logged again.
	noteSpan = int64(10 * time.Minute)
	// maxNotes bounds the remembered mistakes, and with that the log lines about them per span.
	maxNotes = 1000
)

// notes keeps the same mistake in the store from filling the log. It is safe for concurrent use.
type notes struct {
	mu    sync.Mutex
	known *recent[struct{}]
	spent int // lines since since
	since int64
}

func newNotes() *notes { return &notes{known: newRecent[struct{}](noteSpan, maxNotes)} }

// first tells whether what was not noted lately, and notes it.
func (n *notes) first(what string, now int64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.known.get(what, now); ok {
		return false
	}
	if now-n.since > noteSpan {
		n.since, n.spent = now, 0
	}
	if n.spent >= maxNotes {
		return false
	}
	n.spent++
	n.known.put(what, struct{}{}, now)
	return true
}

// parseReading parses what the store holds under name; nil means that it has no list. A list that
// did not change keeps its Frontend. Mistakes are counted, and logged once in a while.
func (c *Cache) parseReading(name string, r *reading) *Frontend {
	if r.deadBroken != nil {
		c.note(name, "dead", "wrong_type_dead", r.deadBroken.Error())
	}
	if r.broken != nil {
		c.note(name, "frontend", "wrong_type", r.broken.Error())
		return &Frontend{Key: name}
	}
	if len(r.list) == 0 {
		return nil
	}
	if e := c.table.findString(name); e != nil {
		if f := e.value.Load().frontend; f != nil && f.sameList(r.list) {
			return f
		}
		name = e.name()
	}
	if r.cut {
		c.m.listsCut.Inc()
		c.note(name, "frontend", "too_long", fmt.Sprintf("more than %d backends: the rest is not used", c.o.MaxBackends))
	}
	return parseFrontend(name, r.list, c.o.Own, func(element string, err error) {
		c.note(name, element, invalidCause(err), err.Error())
	})
}

// note counts a mistake in the store by its cause, which is of a closed set, and logs it unless
// that was done lately.
func (c *Cache) note(name, element, cause, text string) {
	c.m.invalid(cause)
	element = loggable(element)
	if c.notes.first(name+" "+element+" "+cause, c.now()) {
		c.log.Warn("route entry is invalid", "frontend", name, "element", element, "cause", text)
	}
}

// noteRefusal logs once in a while that the store answered the read of one name with an error. What it
// refuses altogether is an outage, which the watch reports.
func (c *Cache) noteRefusal(name string, err error) {
	cause := errorCause(err)
	if c.epoch.Load()&1 == 1 && (cause == "refused" || cause == "reply") && c.notes.first(name+" "+cause, c.now()) {
		c.log.Warn("the store refuses to read a route", "frontend", name, "cause", cause, "error", err)
	}
}

// maxLoggedElement bounds what one element may take in the log and in memory.
const maxLoggedElement = 200

// loggable shortens an element and hides its user information, which may be a password.
func loggable(element string) string {
	if i := strings.LastIndexByte(element, '@'); i >= 0 {
		scheme, _, found := strings.Cut(element[:i], "://")
		if found {
			scheme += "://"
		} else {
			scheme = ""
		}
		element = scheme + "***" + element[i:]
	}
	return element[:min(len(element), maxLoggedElement)]
}
