// Package cache answers one question for every request: which frontend does this host name
// resolve to, and which of its backends are dead now.
//
// Answers come from memory. A table of parsed frontends is filled from a store (Redis, or one
// JSON file) on the first use of a name and kept true by what the store pushes: a change marks the
// names that depend on it, and the next lookup of such a name reads it again, once for all callers.
// While the store is away, what is known keeps being served and is counted as stale.
//
// The proxy calls Lookup and MarkDead; cmd/sluice calls New, Start and Close. Everything exported
// is safe for concurrent use. The package never sees HTTP, never mutates a Frontend after it was
// published, and never does I/O on its caller's goroutine, except in Ping, which asks the store.
package cache
