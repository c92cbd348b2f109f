package cache

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/histogram"
)

// hitStripes spreads the counter of hits over cache lines.
const hitStripes = 128

// hitCounter counts what every request does. One atomic word would bounce between the cores, so each
// core has a word of its own as long as there are no more of them than hitStripes.
type hitCounter struct {
	stripes [hitStripes]struct {
		n atomic.Uint64
		_ [120]byte // two lines: the prefetcher fetches pairs
	}
	handed atomic.Uint32
	// tokens hands each processor of the scheduler the stripe that it had before, without a lock.
	tokens sync.Pool
}

// hitStripe is the number of a stripe.
type hitStripe struct{ i uint32 }

func (h *hitCounter) inc() {
	s, ok := h.tokens.Get().(*hitStripe)
	if !ok {
		s = &hitStripe{h.handed.Add(1) % hitStripes}
	}
	h.stripes[s.i].n.Add(1)
	h.tokens.Put(s)
}

func (h *hitCounter) value() float64 {
	sum := uint64(0)
	for i := range h.stripes {
		sum += h.stripes[i].n.Load()
	}
	return float64(sum)
}

// counters are the metrics of a Cache. docs/metrics.md says what each one means.
type counters struct {
	set *metrics.Set

	hits, negativeHits hitCounter

	misses, unknown, unavailable, limited       *metrics.Counter
	staleDown, staleSlow                        *metrics.Counter
	invalidations, flushes, revalidations, torn *metrics.Counter
	listsCut                                    *metrics.Counter
	certsLimited, certsUnavailable              *metrics.Counter
	hashEvictions                               [families]*metrics.Counter
	outage                                      *metrics.FloatCounter
	roundTrip                                   *histogram.Histogram
	evictions                                   [spaceKinds]*metrics.Counter
	marks                                       [markResults]*metrics.Counter
	tiers                                       [tierCount]*metrics.Gauge
	mastersAway                                 *metrics.Gauge

	sweptOutage, sweptAge            *metrics.Counter
	sweptChange, rereadsDropped      *metrics.Counter
	snapshotWrites, snapshotFailures *metrics.Counter
	snapshotBytes, restored          atomic.Uint64
}

// newCounters registers the metrics in set.
func newCounters(set *metrics.Set, c *Cache) *counters {
	m := &counters{
		set:           set,
		misses:        set.NewCounter("sluice_route_misses_total"),
		unknown:       set.NewCounter("sluice_route_unknown_total"),
		unavailable:   set.NewCounter("sluice_route_unavailable_total"),
		limited:       set.NewCounter("sluice_route_lookups_limited_total"),
		staleDown:     set.NewCounter(`sluice_route_stale_total{cause="store_down"}`),
		staleSlow:     set.NewCounter(`sluice_route_stale_total{cause="store_slow"}`),
		invalidations: set.NewCounter("sluice_route_invalidations_total"),
		flushes:       set.NewCounter("sluice_route_flushes_total"),
		revalidations: set.NewCounter("sluice_route_revalidations_total"),
		torn:          set.NewCounter("sluice_route_torn_writes_saved_total"),
		listsCut:      set.NewCounter("sluice_route_lists_cut_total"),
		outage:        set.NewFloatCounter("sluice_store_outage_seconds_total"),
		roundTrip:     histogram.New(set, "sluice_store_round_trip_seconds"),
		mastersAway:   set.NewGauge("sluice_store_masters_away", nil),
	}
	m.certsLimited = set.NewCounter("sluice_certificate_lookups_limited_total")
	m.certsUnavailable = set.NewCounter("sluice_certificate_unavailable_total")
	m.hashEvictions = [families]*metrics.Counter{
		certificateFamily: set.NewCounter("sluice_certificate_evictions_total"),
		policyFamily:      set.NewCounter("sluice_policy_evictions_total"),
	}
	set.NewGauge("sluice_certificate_entries", func() float64 { return c.certificates.count() })
	set.NewGauge("sluice_policy_entries", func() float64 { return c.policies.count() })
	for k, name := range spaceNames {
		m.evictions[k] = set.NewCounter(fmt.Sprintf("sluice_route_evictions_total{space=%q}", name))
		set.NewGauge(fmt.Sprintf("sluice_route_entries{space=%q}", name), func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(len(c.spaces[k].members))
		})
	}
	for r, name := range markResultNames {
		m.marks[r] = set.NewCounter(fmt.Sprintf("sluice_route_marks_total{result=%q}", name))
	}
	for t := tierBroadcast; t < tierCount; t++ {
		m.tiers[t] = set.NewGauge(fmt.Sprintf("sluice_store_tier{tier=%q}", t), nil)
	}
	set.NewGauge("sluice_route_marks_waiting", func() float64 { return float64(c.marker.length()) })
	m.sweptOutage = set.NewCounter(`sluice_route_swept_total{cause="outage"}`)
	m.sweptAge = set.NewCounter(`sluice_route_swept_total{cause="age"}`)
	m.sweptChange = set.NewCounter(`sluice_route_swept_total{cause="change"}`)
	m.rereadsDropped = set.NewCounter("sluice_route_rereads_dropped_total")
	set.NewGauge("sluice_route_sweep_pending", func() float64 { return float64(c.sweep.pending.Load()) })
	set.NewGauge("sluice_route_sweep_rate", func() float64 { return math.Float64frombits(c.sweep.rate.Load()) })
	set.NewGauge("sluice_route_age_bound_seconds", func() float64 { return c.sweep.ageBound() })
	m.snapshotWrites = set.NewCounter(`sluice_snapshot_writes_total{result="written"}`)
	m.snapshotFailures = set.NewCounter(`sluice_snapshot_writes_total{result="failed"}`)
	set.NewGauge("sluice_snapshot_bytes", func() float64 { return float64(m.snapshotBytes.Load()) })
	set.NewGauge("sluice_snapshot_restored_routes", func() float64 { return float64(m.restored.Load()) })
	set.NewGauge("sluice_route_hits_total", m.hits.value)
	set.NewGauge("sluice_route_negative_hits_total", m.negativeHits.value)
	set.NewGauge("sluice_route_flights", func() float64 { return float64(len(c.slots)) })
	set.NewGauge("sluice_route_epoch", func() float64 { return float64(c.epoch.Load()) })
	set.NewGauge("sluice_store_watch_up", func() float64 { return float64(c.epoch.Load() & 1) })
	return m
}

// storeError counts an error of the store; cause is of a closed set.
func (m *counters) storeError(cause string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("sluice_store_errors_total{cause=%q}", cause)).Inc()
}

// invalidHash counts a mistake in a hash; cause is of a closed set.
func (m *counters) invalidHash(f family, cause string) {
	name := "sluice_certificate_invalid_total"
	if f == policyFamily {
		name = "sluice_policy_invalid_total"
	}
	m.set.GetOrCreateCounter(fmt.Sprintf("%s{cause=%q}", name, cause)).Inc()
}

// invalid counts an entry of the store that cannot be used; cause is of a closed set.
func (m *counters) invalid(cause string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("sluice_route_invalid_entries_total{cause=%q}", cause)).Inc()
}
