package proxy

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the package when a goroutine of it outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if leaked := leakedGoroutines(30 * time.Second); leaked != "" {
			fmt.Fprintln(os.Stderr, "goroutines outlived the tests:\n"+leaked)
			code = 1
		}
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of goroutines that this package, its tests or a worker of fasthttp run and that do
// not end within the time. fasthttp's cleaners are not among them: each ends with its next tick, seconds later.
func leakedGoroutines(within time.Duration) string {
	var leaked []string
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		leaked = leaked[:0]
		buf := make([]byte, 4<<20)
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if isOurs(stack) {
				leaked = append(leaked, stack)
			}
		}
		if len(leaked) == 0 {
			return ""
		}
	}
	return strings.Join(leaked, "\n\n")
}

// isOurs reports whether a stack shows code that a test should have ended.
func isOurs(stack string) bool {
	if strings.Contains(stack, "proxy.TestMain") {
		return false
	}
	for _, name := range []string{"sluice/proxy.", "sluice/proxy_test.", "fasthttp.(*workerPool).workerFunc", "sluice/cache."} {
		if strings.Contains(stack, name) {
			return true
		}
	}
	return false
}
