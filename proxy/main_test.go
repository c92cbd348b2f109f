package proxy

import (
	"os"
	"testing"
	"time"

	"sluice/internal/leaktest"
)

// TestMain fails the package when a goroutine of it, of the cache or of a fasthttp worker outlives the tests. fasthttp's
// cleaners are not among them: each ends with its next tick, seconds later.
func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(m, 30*time.Second,
		"sluice/proxy.", "sluice/proxy_test.", "sluice/cache.", "fasthttp.(*workerPool).workerFunc"))
}
