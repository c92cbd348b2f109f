package cache

// Route is the answer of one lookup: a frontend, and what was known about its dead backends at
// that moment. It is a small value; it stays valid as long as the caller likes, but a retry should
// look up anew.
type Route struct {
	frontend *Frontend
	host     *entry // the name asked for: its dead set counts
	owner    *entry // the name whose list matched: its local marks count
	extra    *extra
	marks    *markSet
	now      int64
	stale    bool
}

// Frontend returns what the host resolved to; it is never nil in a Route returned without error.
func (r *Route) Frontend() *Frontend { return r.frontend }

// Prefetch has the processor fetch what a request reads of the frontend into its caches, all at the same
// time. It is for a caller that will read it: right after the lookup, and after other work that may have
// driven it out again.
func (r *Route) Prefetch() { prefetchFrontend(r.frontend) }

// Stale tells that the route was served although the store could not confirm it.
func (r *Route) Stale() bool { return r.stale }

// Alive tells whether backend i was not dead at the time of the lookup, by the store's dead set
// (whose TTL counts even if its expiry was never announced) or by a mark of this process. It says
// nothing about Backend.Err.
func (r *Route) Alive(i int) bool {
	if r.extra != nil && r.extra.dead.has(i, r.now) {
		return false
	}
	return !r.marks.has(r.frontend, i, r.now)
}
