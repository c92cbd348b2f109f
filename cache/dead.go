package cache

import "strconv"

// deadSlack is by how much the end of a dead set's life may move from one reading to the next
// without a mark: the spread of round trips.
const deadSlack = int64(250e6)

// deadSet is a host's set of dead backend ids, bound to the URLs that the ids meant when they were
// first seen: a writer that removes an element (LREM) shifts the ids of those behind it, and the
// set lives on. It is immutable.
type deadSet struct {
	until int64 // the set's end by its TTL; the expiry's push may come late or never
	ids   []deadID

	// frontend is the list that bits is about; nil before attach.
	frontend *Frontend
	bits     []uint64
}

// deadID is one member of a dead set.
type deadID struct {
	id    int
	url   string // empty while no list had this position
	bound int64  // when it was bound
}

// announcement is a message of the channel "dead".
type announcement struct {
	url string
	at  int64
}

// announcedKey is the key under which an announcement is remembered.
func announcedKey(host string, id int) string { return host + ";" + strconv.Itoa(id) }

// mergeDead makes the dead set of a fresh reading, keeping the bindings of the one before. A
// binding ends when its id leaves the set, or when the set's TTL rises, since the id may then have
// been marked anew and mean another URL; an announcement tells which one was.
// announced looks up announcements by id.
func mergeDead(old *deadSet, members []string, until, now int64, announced func(id int) (announcement, bool)) *deadSet {
	d := &deadSet{until: until}
	explained := old != nil && until-deadSlack <= old.until
	for _, member := range members {
		id, err := strconv.Atoi(member)
		if err != nil || id < 0 {
			continue
		}
		b := deadID{id: id, bound: now}
		before, known := old.binding(id, now)
		if a, heard := announced(id); heard && (!known || a.at >= before.bound) {
			b.url, b.bound = a.url, a.at
			explained = true
		} else if known {
			b = before
		}
		d.ids = append(d.ids, b)
	}
	if len(d.ids) == 0 {
		return nil
	}
	if !explained {
		for i := range d.ids {
			d.ids[i].url = ""
		}
	}
	return d
}

// binding returns what id was bound to in a set that is still alive; d may be nil.
func (d *deadSet) binding(id int, now int64) (deadID, bool) {
	if d == nil || now >= d.until {
		return deadID{}, false
	}
	for _, b := range d.ids {
		if b.id == id && b.url != "" {
			return b, true
		}
	}
	return deadID{}, false
}

// attach returns d bound to f: ids without a URL take the one at their position. d may be nil.
func (d *deadSet) attach(f *Frontend) *deadSet {
	if d == nil || d.frontend == f {
		return d
	}
	w := &deadSet{until: d.until, frontend: f, ids: make([]deadID, len(d.ids))}
	w.bits = make([]uint64, (len(f.Backends)+63)/64)
	for i, b := range d.ids {
		if b.url == "" && b.id < len(f.Backends) {
			b.url = f.Backends[b.id].URL
		}
		w.ids[i] = b
		for j := range f.Backends {
			if f.names(j, b.url, b.id) {
				w.bits[j/64] |= 1 << (j % 64)
			}
		}
	}
	return w
}

// rebind returns d with id meaning url, or d itself if nothing changes.
func (d *deadSet) rebind(id int, url string, now int64) *deadSet {
	for i, b := range d.ids {
		if b.id != id || b.url == url {
			continue
		}
		w := &deadSet{until: d.until, ids: append([]deadID(nil), d.ids...)}
		w.ids[i] = deadID{id: id, url: url, bound: now}
		if d.frontend != nil {
			return w.attach(d.frontend)
		}
		return w
	}
	return d
}

// has tells whether backend i is in the set; d may be nil.
func (d *deadSet) has(i int, now int64) bool {
	return d != nil && now < d.until && d.bits[i/64]&(1<<(i%64)) != 0
}

// names tells whether backend i is meant by a mark of url at position id. All repetitions of a URL
// are meant, since they are one server; only in a list that holds nothing else does each repetition
// stand for itself, as in Hipache, so that one failure does not empty the list.
func (f *Frontend) names(i int, url string, id int) bool {
	return f.Backends[i].URL == url && (!f.uniform || i == id)
}
