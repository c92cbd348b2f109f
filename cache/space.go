package cache

import "math/rand/v2"

// spaceKind names one of the three bounded spaces that share the table.
type spaceKind uint8

const (
	exactSpace   spaceKind = iota // names with a list of their own, wildcards included
	derivedSpace                  // names that a wildcard or "*" answers for
	unknownSpace                  // names that nothing answers for
	spaceKinds
)

var spaceNames = [spaceKinds]string{"exact", "derived", "unknown"}

// evictionSample is how many entries are compared to find one that was not used lately. Eight come
// close to true LRU and need no list that every hit would have to write.
const evictionSample = 8

// space bounds the entries of one kind. Random names can fill only the kind that they resolve to,
// so they never evict a real host. All methods need Cache.mu.
type space struct {
	limit   int
	members []*entry
}

func (s *space) add(e *entry, kind spaceKind) {
	e.kind = kind
	e.slot = int32(len(s.members))
	s.members = append(s.members, e)
}

func (s *space) drop(e *entry) {
	last := len(s.members) - 1
	moved := s.members[last]
	s.members[e.slot] = moved
	moved.slot = e.slot
	s.members[last] = nil
	s.members = s.members[:last]
}

// victim picks the entry to evict, nil while there is room. The newest entry, keep, is spared.
func (s *space) victim(keep *entry) *entry {
	if len(s.members) <= s.limit {
		return nil
	}
	var oldest *entry
	for range evictionSample {
		e := s.members[rand.IntN(len(s.members))]
		if e != keep && (oldest == nil || e.used.Load() < oldest.used.Load()) {
			oldest = e
		}
	}
	return oldest
}
