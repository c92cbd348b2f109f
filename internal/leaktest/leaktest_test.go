package leaktest

import (
	"strings"
	"testing"
	"time"
)

// lingering tells that it runs: the stack of a goroutine that has not begun does not name it.
func lingering(begun chan<- struct{}, end <-chan struct{}) {
	close(begun)
	<-end
}

func TestAwait(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	go lingering(begun, end)
	<-begun
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
