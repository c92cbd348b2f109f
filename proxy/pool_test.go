package proxy

import (
	"sync"
	"testing"
)

// A request that finds no room takes none, not even for a moment: it would keep out one for which there is room.
func TestPool_ARefusedRequestHoldsNoPlace(t *testing.T) {
	t.Parallel()
	var p pool
	p.active.Store(1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if p.enter(1) {
					t.Error("entered above the limit")
					return
				}
			}
		})
	}
	for range 200000 {
		if !p.enter(2) {
			t.Error("kept out although there was room")
			break
		}
		p.leave()
	}
	close(stop)
	wg.Wait()
}
