package histogram

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

func TestHistogram_WritesCumulativeBuckets(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	h := New(set, "x_seconds")
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 2 * time.Second, time.Hour} {
		h.Update(d)
	}
	var out bytes.Buffer
	set.WritePrometheus(&out)
	for _, want := range []string{
		`x_seconds_bucket{le="0.0005"} 1`, `x_seconds_bucket{le="0.001"} 2`, `x_seconds_bucket{le="0.0025"} 3`,
		`x_seconds_bucket{le="2.5"} 4`, `x_seconds_bucket{le="60"} 4`, `x_seconds_bucket{le="+Inf"} 5`,
		`x_seconds_count 5`, `x_seconds_sum 3602.002`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in:\n%s", want, out.String())
		}
	}
}

// What is counted in parts is written as one.
func TestSum_AddsParts(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	parts := []*Histogram{{}, {}, {}}
	Sum(set, "x_seconds", parts)
	parts[0].Update(time.Millisecond)
	parts[1].Update(time.Millisecond)
	parts[1].Update(2 * time.Second)
	var out bytes.Buffer
	set.WritePrometheus(&out)
	for _, want := range []string{
		`x_seconds_bucket{le="0.0005"} 0`, `x_seconds_bucket{le="0.001"} 2`, `x_seconds_bucket{le="2.5"} 3`,
		`x_seconds_count 3`, `x_seconds_sum 2.002`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in:\n%s", want, out.String())
		}
	}
}

func TestHistogram_UpdateDoesNotAllocate(t *testing.T) {
	h := New(metrics.NewSet(), "x_seconds")
	if n := testing.AllocsPerRun(100, func() { h.Update(3 * time.Millisecond) }); n != 0 {
		t.Errorf("Update allocates %v times", n)
	}
}
