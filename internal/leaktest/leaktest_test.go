package leaktest

import (
	"strings"
	"testing"
	"time"
)

func lingering(end <-chan struct{}) { <-end }

func TestAwait(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	go lingering(end)
	ours := []string{"leaktest.lingering("}
	if leaked := await(0, ours); !strings.Contains(leaked, "leaktest.lingering(") {
		t.Errorf("leftovers %q, want the goroutine that lingers", leaked)
	}
	if leaked := await(0, []string{"leaktest.absent("}); leaked != "" {
		t.Errorf("leftovers %q, want none of a name that does not run", leaked)
	}
	time.AfterFunc(2*pollInterval, func() { close(end) })
	if leaked := await(10*time.Second, ours); leaked != "" {
		t.Errorf("leftovers %q, want none: it ended within the time", leaked)
	}
}
