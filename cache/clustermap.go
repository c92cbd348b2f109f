package cache

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
)

// slotCount is how many slots the keys of a Cluster fall into.
const slotCount = 16384

// slotOf returns the slot of a key. Of a key with braces, what is between them counts.
func slotOf(key string) uint16 {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	sum := uint16(0)
	for i := range len(key) {
		sum = sum<<8 ^ crcTable[byte(sum>>8)^key[i]]
	}
	return sum % slotCount
}

// crcTable is that of CRC-16 with the polynomial 0x1021, as the Cluster specification has it.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		sum := uint16(i) << 8
		for range 8 {
			if sum&0x8000 != 0 {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
		table[i] = sum
	}
	return table
}()

// claim is what one node of a Cluster says about a node.
type claim struct {
	id       string
	address  string // ip:port, or name:port where a name is asked for and known
	alias    string // the other of the two, if known
	isMaster bool
	failed   bool
	epoch    int64 // of two masters that claim a slot, the one with the higher number has it
	slots    [][2]int
}

// parseClaims reads the answer to CLUSTER NODES. host is whom it came from: a node that has met no
// other does not know its own address. byName asks for host names, which certificates hold.
func parseClaims(text, host string, byName bool) []claim {
	var claims []claim
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		c := claim{id: fields[0]}
		c.address, c.alias = parsePlace(fields[1], host, byName)
		flags := strings.Split(fields[2], ",")
		c.isMaster = slices.Contains(flags, "master")
		c.failed = slices.Contains(flags, "fail")
		if c.address == "" || slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue
		}
		c.epoch, _ = strconv.ParseInt(fields[6], 10, 64) // what is no number loses to all others
		for _, s := range fields[8:] {
			if r, ok := parseSlots(s); ok {
				c.slots = append(c.slots, r)
			}
		}
		claims = append(claims, c)
	}
	return claims
}

// parsePlace reads ip:port@busport[,name[,...]].
func parsePlace(s, host string, byName bool) (address, alias string) {
	place, more, _ := strings.Cut(s, ",")
	name, _, _ := strings.Cut(more, ",")
	place, _, _ = strings.Cut(place, "@")
	i := strings.LastIndexByte(place, ':')
	if i < 0 || !validPort([]byte(place[i+1:])) {
		return "", ""
	}
	ip, port := strings.Trim(place[:i], "[]"), place[i+1:]
	if ip == "" {
		ip = host
	}
	address = net.JoinHostPort(ip, port)
	if name == "" {
		return address, ""
	}
	alias = net.JoinHostPort(name, port)
	if byName {
		address, alias = alias, address
	}
	return address, alias
}

// parseSlots reads first-last or one number. A slot in brackets is on its way to or from the node.
func parseSlots(s string) (r [2]int, ok bool) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var err, err2 error
	r[0], err = strconv.Atoi(first)
	r[1], err2 = strconv.Atoi(last)
	return r, err == nil && err2 == nil && r[0] >= 0 && r[0] <= r[1] && r[1] < slotCount
}

// clusterMap is who has which slots. It is immutable.
type clusterMap struct {
	// masters are all of them, in the order of their addresses, those without slots too: slots may
	// be on their way to them.
	masters []claim
	// owner is an index into masters, plus one; 0 is nobody.
	owner [slotCount]uint16
}

// mergeClaims makes a map of what some nodes said. A node that lost touch may say what was true
// long ago; the epochs tell.
func mergeClaims(views [][]claim) *clusterMap {
	best := map[string]claim{} // the newest word on each node
	replicas := map[string]bool{}
	for _, view := range views {
		for _, c := range view {
			replicas[c.id] = replicas[c.id] || !c.isMaster
			if old, ok := best[c.id]; c.isMaster && (!ok || c.epoch > old.epoch) {
				best[c.id] = c
			}
		}
	}
	var owners [slotCount]*claim
	for _, view := range views {
		for i := range view {
			c := &view[i]
			for _, r := range c.slots {
				for slot := r[0]; slot <= r[1]; slot++ {
					if old := owners[slot]; old == nil || c.epoch > old.epoch {
						owners[slot] = c
					}
				}
			}
		}
	}
	return newClusterMap(best, replicas, &owners)
}

func newClusterMap(best map[string]claim, replicas map[string]bool, owners *[slotCount]*claim) *clusterMap {
	m := &clusterMap{}
	hasSlots := map[string]bool{}
	for _, c := range owners {
		if c != nil {
			hasSlots[c.id] = true
		}
	}
	for id, c := range best {
		if hasSlots[id] || !c.failed && !replicas[id] {
			m.masters = append(m.masters, c)
		}
	}
	// A node that was reset, or that others are just meeting, shows up under two names for a while.
	slices.SortFunc(m.masters, func(a, b claim) int {
		return cmp.Or(strings.Compare(a.address, b.address), cmp.Compare(b.epoch, a.epoch))
	})
	m.masters = slices.CompactFunc(m.masters, func(a, b claim) bool { return a.address == b.address })
	index := map[string]uint16{}
	for i := range m.masters {
		index[m.masters[i].address] = uint16(i) + 1
	}
	for slot, c := range owners {
		if c != nil {
			m.owner[slot] = index[best[c.id].address]
		}
	}
	return m
}

// equal tells whether two maps send every key to the same place; nil stands for none.
func (m *clusterMap) equal(other *clusterMap) bool {
	if m == nil || other == nil {
		return m == other
	}
	return m.owner == other.owner && slices.EqualFunc(m.masters, other.masters, func(a, b claim) bool {
		return a.address == b.address && a.id == b.id
	})
}

// find returns the index of the master at an address that a redirection names, or -1.
func (m *clusterMap) find(address string) int {
	return slices.IndexFunc(m.masters, func(c claim) bool { return c.address == address || c.alias == address })
}

// claims returns what a map says, in the form that it was made of.
func (m *clusterMap) claims() []claim {
	claims := make([]claim, len(m.masters))
	for i, c := range m.masters {
		c.slots = nil
		claims[i] = c
	}
	for slot := 0; slot < slotCount; slot++ {
		if i := int(m.owner[slot]) - 1; i >= 0 {
			claims[i].slots = appendSlot(claims[i].slots, slot)
		}
	}
	return claims
}

// appendSlot adds a slot behind all others.
func appendSlot(ranges [][2]int, slot int) [][2]int {
	if n := len(ranges) - 1; n >= 0 && ranges[n][1] == slot-1 {
		ranges[n][1] = slot
		return ranges
	}
	return append(ranges, [2]int{slot, slot})
}
