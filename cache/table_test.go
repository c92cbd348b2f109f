package cache

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"
)

// TestTable_KeepsWhatIsThere compares a table with a map, while names come and go in numbers at
// which buckets overflow, with names of all lengths.
func TestTable_KeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	table, model := newTable(), map[string]*entry{}
	names := make([]string, 4*maxNameBytes)
	for i := range names {
		names[i] = string(rune('a'+i%26)) + strings.Repeat(string(rune('a'+i/26%26)), i%maxNameBytes)
	}
	for i := range 200_000 {
		name := names[rand.IntN(len(names))]
		if rand.IntN(2) == 0 {
			name = names[rand.IntN(len(names)/8)] // some of them all the time, so that buckets fill and empty
		}
		e := model[name]
		for _, found := range [...]*entry{table.find([]byte(name)), table.findString(name)} {
			if found != e {
				t.Fatalf("step %d: %q: found %p, want %p", i, name, found, e)
			}
		}
		if e != nil && rand.IntN(2) == 0 {
			table.remove(e)
			delete(model, name)
		} else if e == nil {
			v := &value{}
			if rand.IntN(2) == 0 {
				v.frontend = &Frontend{}
			}
			model[name] = newEntry(name, v)
			table.insert(model[name])
		}
	}
	count := 0
	for _, n := range table.counts {
		count += n
	}
	if count != len(model) {
		t.Errorf("the table counts %d entries, want %d", count, len(model))
	}
}

// TestTable_AbsentNameInAFullShard looks for a name whose every bucket says that the search goes on.
func TestTable_AbsentNameInAFullShard(t *testing.T) {
	t.Parallel()
	table := newTable()
	for _, shard := range table.shards.Load() {
		for b := range shard {
			shard[b].tags.Add(overflowUnit)
		}
	}
	if e := table.find([]byte("absent.example")); e != nil {
		t.Errorf("found %q", e.name())
	}
}

// TestTable_FillsCacheLines holds the sizes that the speed of a hit depends on.
func TestTable_FillsCacheLines(t *testing.T) {
	t.Parallel()
	for what, got := range map[string]uintptr{"a bucket": unsafe.Sizeof(bucket{}), "a value": unsafe.Sizeof(value{})} {
		if unsafe.Sizeof(uintptr(0)) == 8 && got != 64 {
			t.Errorf("%s has %d bytes, want 64", what, got)
		}
	}
	if got := unsafe.Sizeof(entry{}); unsafe.Sizeof(uintptr(0)) == 8 && got != 24 {
		t.Errorf("an entry has %d bytes, want 24", got)
	}
	e := newEntry("www.customers.example.com", &value{frontend: &Frontend{}})
	if at := uintptr(unsafe.Pointer(e)); unsafe.Sizeof(at) == 8 && at%128 != 0 {
		t.Errorf("an entry with its value lies at %#x, across cache lines", at)
	}
}
