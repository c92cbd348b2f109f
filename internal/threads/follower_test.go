package threads

import (
	"runtime"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

func TestFollower_GivesThreadsBack(t *testing.T) {
	most := runtime.GOMAXPROCS(0)
	if most < 2 {
		t.Skip("one core: there is nothing to follow")
	}
	f := Start(Options{Metrics: metrics.NewSet()})
	f.set(newGovernor(most), 1)
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("got %d threads, want 1", got)
	}
	f.Close()
	if got := runtime.GOMAXPROCS(0); got != most {
		t.Errorf("got %d threads after Close, want %d", got, most)
	}
	if fewer, more := f.fewer.Get(), f.more.Get(); fewer != 1 || more != 1 {
		t.Errorf("counted %d changes to fewer and %d to more, want one each", fewer, more)
	}
}
