package cache

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"
)

// bounded is a cache with room for some of the names: get tells whether a name was there, and puts
// it in if not.
type bounded interface{ get(name string) bool }

// rivals are the caches that TestEviction compares.
var rivals = []struct {
	name string
	make func(t *testing.T, room int) bounded
}{
	{"sluice", newOurBounded},
	{"golang-lru", func(t *testing.T, room int) bounded {
		c, err := lru.New[string, *value](room)
		if err != nil {
			t.Fatal(err)
		}
		return lruBounded{c}
	}},
	{"otter", func(_ *testing.T, room int) bounded {
		return otterBounded{otter.Must(&otter.Options[string, *value]{MaximumSize: room})}
	}},
}

// ourBounded is the space of exact hosts, without a store behind it.
type ourBounded struct {
	c     *Cache
	value *value
}

func newOurBounded(t *testing.T, room int) bounded {
	c, err := New(Options{Driver: []string{"file:unused.json"}, MaxHosts: room})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.up()
	return &ourBounded{c, &value{frontend: &Frontend{}, epoch: c.epoch.Load(), gen: c.rules.Load(), expires: never, soft: math.MaxUint32}}
}

func (o *ourBounded) get(name string) bool {
	if e := o.c.table.findString(name); e != nil {
		var r Route
		return o.c.peek(e, &r) == verdictFound
	}
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.c.admit(newEntry(name, o.value))
	return false
}

type lruBounded struct{ *lru.Cache[string, *value] }

func (l lruBounded) get(name string) bool {
	_, ok := l.Get(name)
	if !ok {
		l.Add(name, &value{})
	}
	return ok
}

type otterBounded struct {
	*otter.Cache[string, *value]
}

func (o otterBounded) get(name string) bool {
	_, ok := o.GetIfPresent(name)
	if !ok {
		o.Set(name, &value{})
	}
	return ok
}

// trace is an order in which names are asked for, by their numbers.
type trace struct {
	name  string
	order []uint32
}

// traces returns what is asked of n names.
func traces(n, length int) []trace {
	seeded := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	skewed := func(exponent float64) []uint32 {
		sums, sum := make([]float64, n), 0.0
		for i := range sums {
			sum += math.Pow(float64(i+1), -exponent)
			sums[i] = sum
		}
		order := make([]uint32, length)
		for i := range order {
			at, _ := slices.BinarySearch(sums, seeded.Float64()*sum)
			order[i] = uint32(min(at, n-1))
		}
		return order
	}
	uniform, usual := make([]uint32, length), skewed(1)
	for i := range uniform {
		uniform[i] = seeded.Uint32N(uint32(n))
	}
	crawled, turned := slices.Clone(usual), slices.Clone(usual)
	for i := 0; i < length; i += 10 {
		crawled[i] = uint32(i / 10 % n)
	}
	for i := length * 2 / 3; i < length; i++ {
		turned[i] = uint32(n) - 1 - turned[i]
	}
	return []trace{
		{"Zipf, exponent 1.0", usual},
		{"Zipf, exponent 0.8", skewed(0.8)},
		{"Zipf 1.0, every tenth request of a crawler that takes all names in turn", crawled},
		{"Zipf 1.0, the least popular become the most popular half-way", turned},
		{"all names alike", uniform},
	}
}

// TestEviction asks for ten times more names than there is room for, and compares how often they are
// there with well-kept libraries: the least recently used goes (golang-lru), W-TinyLFU (otter). make
// scale runs the long form and writes the table.
func TestEviction(t *testing.T) {
	names, length := 20_000, 200_000
	if scaleWanted() {
		names, length = 1_000_000, 3_000_000
	}
	texts := make([]string, names)
	for i := range texts {
		texts[i] = string(hostName(nil, i))
	}
	var page strings.Builder
	fmt.Fprintf(&page, `## Ten times more names than room

Written by `+"`make scale`"+`: %d names, room for a tenth of them, %d requests, the first third not counted. The share of
requests whose name is there, and the time for each, one after the other, with what it takes to put in what was not.
The libraries are at their defaults.

| requests | sluice | golang-lru (LRU) | otter (W-TinyLFU) |
|---|---|---|---|
`, names, length)
	for _, trace := range traces(names, length) {
		shares := map[string]float64{}
		fmt.Fprintf(&page, "| %s |", trace.name)
		for _, rival := range rivals {
			c, hits := rival.make(t, names/10), 0
			begin := time.Now()
			for i, name := range trace.order {
				if c.get(texts[name]) && i >= length/3 {
					hits++
				}
			}
			each := time.Since(begin) / time.Duration(length)
			shares[rival.name] = 100 * float64(hits) / float64(length-length/3)
			fmt.Fprintf(&page, " %.1f %%, %d ns |", shares[rival.name], each.Nanoseconds())
		}
		page.WriteByte('\n')
		t.Logf("%s: %v", trace.name, shares)
		// Most of what a better policy gains is ours too, and none costs more than a point.
		if got, want := shares["sluice"], max(shares["golang-lru"], shares["otter"]); got < want-3 {
			t.Errorf("%s: %.1f %% are hits, want about %.1f %%", trace.name, got, want)
		}
	}
	page.WriteString(`
Of sixteen entries at random the one goes that was used in the fewest of the last sixteen laps, a lap being half the
room of new names. A hit writes at most once per lap, and nothing while no names come in. To look at sixteen entries is
what makes putting one in dearer than in the libraries; a read of Redis, which takes a hundred times as long, came
before it.
`)
	if scaleWanted() {
		writeBetween(t, "eviction", page.String())
	}
}
