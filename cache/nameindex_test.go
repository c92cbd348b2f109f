package cache

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/redistest"
)

// A server that is busy for a moment is asked again soon; one that allows no walk is not.
func TestNameIndex_IsBuiltAsSoonAsTheServerAllows(t *testing.T) {
	t.Parallel()
	for reply, soon := range map[string]bool{
		"BUSY Redis is busy running a script.": true, "LOADING Redis is loading the dataset in memory": true,
		"NOPERM this user has no permissions": false, "ERR unknown command": false,
	} {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			var walks atomic.Int64
			address := redistest.StartGate(t, s, func(command string) string {
				if strings.HasPrefix(command, "SCAN") && walks.Add(1) <= 2 {
					return reply
				}
				return ""
			})
			c := start(t, Options{Driver: []string{"redis://" + address}, MaxAge: time.Hour})
			complete := func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.certificates.index.complete(c.epoch.Load())
			}
			if soon {
				eventually(t, "the names are known", complete)
				return
			}
			time.Sleep(3 * indexPause)
			if n := walks.Load(); n != 1 || complete() {
				t.Errorf("the server was asked %d times, want once", n)
			}
		})
	}
}
