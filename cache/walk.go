package cache

// walk visits the entries of one space in batches while the space goes on changing. Every entry
// that is there from the first batch to the last is visited, from the newest to the oldest; one
// that takes a removed one's place may be visited twice, and one that is added is not.
type walk struct {
	c     *Cache
	kind  spaceKind
	begun bool
	left  int // entries in front of the last batch
	batch []*entry
}

// next returns the next entries, at most limit, or nil at the end. The slice is valid until the
// next call. Cache.mu must not be held.
func (w *walk) next(limit int) []*entry {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	members := w.c.spaces[w.kind].members
	if !w.begun {
		w.begun, w.left = true, len(members)
	}
	// Removal moves the last member to the gap, so what is not visited yet is always in front.
	end := min(w.left, len(members))
	if end == 0 {
		return nil
	}
	w.left = max(end-limit, 0)
	w.batch = append(w.batch[:0], members[w.left:end]...)
	return w.batch
}
