package cache

import (
	"os"
	"testing"
	"time"

	"sluice/internal/leaktest"
)

// TestMain fails the package when a goroutine of it, or of the client library, outlives the tests.
func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(m, 5*time.Second, "sluice/cache.", "redis/rueidis"))
}
