package proxy

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Nothing is lost or counted twice when many count at once and collections of garbage take their shares away.
func TestTally_AddsUp(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 2000
	set := metrics.NewSet()
	var c tally
	c.init(set)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range each {
				c.count(200, 1, time.Millisecond, time.Microsecond, 10, 3)
				if i%500 == 0 {
					runtime.GC()
				}
			}
		})
	}
	all.Wait()
	c.count(404, 0, 2*time.Second, 0, 0, 0)
	c.count(0, 2, time.Hour, 0, 0, 0)
	c.count(999, 0, 0, 0, 0, 0)
	var out bytes.Buffer
	set.WritePrometheus(&out)
	for _, want := range []string{
		`sluice_requests_total{status="none"} 2`, `sluice_requests_total{status="2xx"} 16000`,
		`sluice_requests_total{status="4xx"} 1`, `sluice_requests_total{status="5xx"} 0`,
		`sluice_attempts_total 16002`, `sluice_response_body_bytes_total 160000`,
		`sluice_request_body_bytes_total 48000`,
		`sluice_request_duration_seconds_bucket{le="0.001"} 16001`, `sluice_request_duration_seconds_count 16003`,
		`sluice_request_duration_seconds_sum 3618`,
		`sluice_backend_duration_seconds_bucket{le="0.0005"} 16000`, `sluice_backend_duration_seconds_count 16000`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("%s is not in:\n%s", want, out.String())
		}
	}
}

// BenchmarkTally counts requests on all cores, with a share for each and with one for all.
func BenchmarkTally(b *testing.B) {
	for _, shared := range []bool{false, true} {
		name := map[bool]string{false: "words=own", true: "words=shared"}[shared]
		b.Run(name, func(b *testing.B) {
			var c tally
			var one tallyShare
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if shared {
						one.count(200, 1, time.Millisecond, time.Microsecond, 10, 0)
					} else {
						c.count(200, 1, time.Millisecond, time.Microsecond, 10, 0)
					}
				}
			})
		})
	}
}
