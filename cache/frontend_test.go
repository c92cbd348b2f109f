package cache

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// TestFrontend_KeepsEachList parses lists of all shapes that differ in how they lie in memory, and looks
// at them again when memory that nothing points to has been collected and used for something else.
func TestFrontend_KeepsEachList(t *testing.T) {
	t.Parallel()
	var lists [][]string
	for backends := range maxPieceBackends + 3 {
		for bytes := 1; bytes < 2*maxPieceText; bytes += 7 {
			list := []string{strings.Repeat("v", bytes/4)}
			for i := range backends {
				list = append(list, fmt.Sprintf("http://10.0.%d.%d:80/%s", bytes%256, i, strings.Repeat("p", bytes/4)))
			}
			lists = append(lists, list)
		}
	}
	frontends := make([]*Frontend, len(lists))
	for i, list := range lists {
		frontends[i] = parseFrontend("a.example", slices.Clone(list), noOwn, func(string, error) { t.Error("invalid") })
	}
	for range 3 {
		runtime.GC()
		for i := range lists {
			parseFrontend("b.example", lists[len(lists)-1-i], noOwn, func(string, error) {})
		}
	}
	for i, list := range lists {
		f := frontends[i]
		if !f.sameList(list) || f.Key != "a.example" || cap(f.Backends) != len(list)-1 {
			t.Fatalf("%q became %+v", list, f)
		}
		for j := range f.Backends {
			if b := &f.Backends[j]; b.Weight != 1 || b.Err != nil || !strings.HasPrefix(b.URL, b.Key+"/") {
				t.Fatalf("%q became %+v", list[j+1], b)
			}
		}
	}
}

// TestFrontend_LiesInOnePiece holds what the speed of a request to a host among many depends on: what it
// reads of a usual list lies in the lines that are fetched together.
func TestFrontend_LiesInOnePiece(t *testing.T) {
	t.Parallel()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	if got := unsafe.Sizeof(Frontend{}); got != 64 {
		t.Errorf("a frontend has %d bytes, want 64", got)
	}
	if got := unsafe.Offsetof(Backend{}.Address); got != 64 {
		t.Errorf("what each request reads of a backend has %d bytes, want 64", got)
	}
	const fetched = 5 * 64
	name := "www.customers.example.com"
	f := parseFrontend(name, []string{"customer", "http://10.0.0.1:8080", "http://10.0.0.2:8080"}, noOwn, nil)
	begin := uintptr(unsafe.Pointer(f))
	if begin%64 != 0 {
		t.Errorf("the frontend lies at %#x, across cache lines", begin)
	}
	last := &f.Backends[1]
	for what, end := range map[string]uintptr{
		"identifier": uintptr(unsafe.Pointer(unsafe.StringData(f.VHost))) + uintptr(len(f.VHost)),
		"backends":   uintptr(unsafe.Pointer(last)) + unsafe.Sizeof(*last),
		"last URL":   uintptr(unsafe.Pointer(unsafe.StringData(last.URL))) + uintptr(len(last.URL)),
		"last key":   uintptr(unsafe.Pointer(unsafe.StringData(last.Key))) + uintptr(len(last.Key)),
	} {
		if end < begin || end > begin+fetched {
			t.Errorf("%s: ends %d bytes behind the frontend's beginning, want at most %d", what, end-begin, fetched)
		}
	}
	e := newEntry(name, &value{frontend: f})
	if unsafe.StringData(f.Key) != unsafe.StringData(e.name()) {
		t.Error("the frontend's key is not the entry's name")
	}
	if newEntry(name, &value{frontend: f}); unsafe.StringData(f.Key) != unsafe.StringData(e.name()) {
		t.Error("the key of a frontend that others may see was changed")
	}
}
