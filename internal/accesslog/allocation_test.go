//go:build !race

package accesslog

import (
	"path/filepath"
	"testing"
)

// TestLog_AllocatesNothing holds for every format, client bytes that need escaping included. The
// minimum over some runs leaves out what the runtime does beside the test.
func TestLog_AllocatesNothing(t *testing.T) {
	for _, o := range []Options{{Format: "hipache"}, {Format: "hipache", Planb: true}, {Format: "json"}} {
		o.Path = filepath.Join(t.TempDir(), "access.log")
		w := open(t, o)
		r := example()
		r.Referer = []byte("http://example.com/\"é\xff")
		least := 1.0
		for range 5 {
			least = min(least, testing.AllocsPerRun(1000, func() { w.Log(r) }))
		}
		if least != 0 {
			t.Errorf("%s: %v allocations per line; want 0", o.Format, least)
		}
	}
}
