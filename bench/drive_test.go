package bench

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// connectionsPerCore is how many clients work at once on each core: with one alone the benchmark
// would measure wake-ups.
const connectionsPerCore = 16

// usualConnections is how many there are unless the benchmark is about their number.
func usualConnections() int { return connectionsPerCore * procs() }

// drive sends b.N requests over so many connections at once, each of which begins at a place of its
// own in requests and goes round from there. All answers must have the same length.
func drive(b *testing.B, addr string, w work, requests [][]byte, connections int) {
	b.Helper()
	clients := make([]*client, connections)
	for i := range clients {
		c, err := newClient(addr, w, requests[0])
		if err != nil {
			b.Fatal(err)
		}
		defer c.close()
		clients[i] = c
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.SetBytes(int64(clients[0].answer))
	b.ReportAllocs()
	b.ResetTimer()
	for _, c := range clients {
		all.Go(func() {
			for i := rand.IntN(len(requests)); left.Add(-1) >= 0; i++ {
				if err := c.do(requests[i%len(requests)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}
