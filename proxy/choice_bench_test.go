package proxy

import (
	"fmt"
	"testing"

	"sluice/cache"
)

// BenchmarkChoose chooses among the backends of a frontend under each policy.
func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 3, 30, 1000} {
		var elements []string
		for i := range n {
			elements = append(elements, fmt.Sprintf("http://10.0.%d.%d:80", i/250, i%250+1))
		}
		route := routeTo(b, elements...)
		for _, balance := range []Balance{BalanceRandom, BalanceRoundRobin, BalanceLeastConn, BalanceP2C} {
			b.Run(fmt.Sprintf("balance=%s/backends=%d", balance, n), func(b *testing.B) {
				c := newChooser(balance, &route)
				c.load = func(*cache.Backend) int64 { return 1 }
				b.ReportAllocs()
				for b.Loop() {
					if c.choose() == noBackend {
						b.Fatal("nothing chosen")
					}
				}
			})
		}
	}
}

// BenchmarkBudget counts requests of many frontends on all cores at once.
func BenchmarkBudget(b *testing.B) {
	var keys [256]string
	for i := range keys {
		keys[i] = fmt.Sprintf("host-%d.example", i)
	}
	var counts budget
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			counts.request(keys[i%len(keys)], now())
		}
	})
}
