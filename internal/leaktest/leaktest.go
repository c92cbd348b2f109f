// Package leaktest fails a test binary whose goroutines outlive its tests. It ends no goroutine and
// knows none by itself; only TestMain functions call it.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	pollInterval  = 20 * time.Millisecond
	maxStackBytes = 4 << 20 // of all goroutines; what is longer is not looked at
)

// Run runs the tests and returns the status to exit with. It is 1 if they pass but leave goroutines
// behind that do not end within the time. ours are parts of stacks by which a goroutine is known to be
// one that a test should have ended, such as "sluice/cache."; libraries' own workers are left alone.
func Run(m *testing.M, within time.Duration, ours ...string) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if leaked := await(within, ours); leaked != "" {
		fmt.Fprintln(os.Stderr, "goroutines outlived the tests:\n"+leaked)
		return 1
	}
	return 0
}

// await returns the stacks of the goroutines that are left, or "" once there are none.
func await(within time.Duration, ours []string) string {
	deadline := time.Now().Add(within)
	for {
		leaked := leftovers(ours)
		if leaked == "" || time.Now().After(deadline) {
			return leaked
		}
		time.Sleep(pollInterval)
	}
}

func leftovers(ours []string) string {
	buf := make([]byte, maxStackBytes)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	stacks = slices.DeleteFunc(stacks, func(stack string) bool {
		return strings.Contains(stack, ".TestMain(") ||
			!slices.ContainsFunc(ours, func(part string) bool { return strings.Contains(stack, part) })
	})
	return strings.Join(stacks, "\n\n")
}
