package acme

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The limits that a name or a client can meet, as labels.
const (
	limitDomain  = "domain"
	limitOrders  = "orders"
	limitQueue   = "queue"
	limitWaiting = "waiting"
	limitWait    = "wait"
)

// counters are the metrics of an Issuer. docs/metrics.md says what each one means.
type counters struct {
	set             *metrics.Set
	issued, renewed *metrics.Counter
	failed          map[reason]*metrics.Counter
	limited         map[string]*metrics.Counter
	answered        map[string]*metrics.Counter
	inProgress      atomic.Int64
	// Of the last look at the schedule.
	certificates, overdue atomic.Int64
	firstExpiry           atomic.Int64 // unix seconds; 0 while there is no certificate
}

func newCounters(set *metrics.Set, queued func() float64) *counters {
	if set == nil {
		set = metrics.NewSet()
	}
	m := &counters{
		set:      set,
		issued:   set.NewCounter("sluice_acme_issued_total"),
		renewed:  set.NewCounter("sluice_acme_renewed_total"),
		failed:   map[reason]*metrics.Counter{},
		limited:  map[string]*metrics.Counter{},
		answered: map[string]*metrics.Counter{},
	}
	for _, r := range reasons {
		m.failed[r] = set.NewCounter(fmt.Sprintf("sluice_acme_failed_total{reason=%q}", string(r)))
	}
	for _, limit := range []string{limitDomain, limitOrders, limitQueue, limitWaiting, limitWait} {
		m.limited[limit] = set.NewCounter(fmt.Sprintf("sluice_acme_limited_total{limit=%q}", limit))
	}
	for _, kind := range []string{HTTP01, TLSALPN01} {
		m.answered[kind] = set.NewCounter(fmt.Sprintf("sluice_acme_challenges_answered_total{challenge=%q}", kind))
	}
	set.NewGauge("sluice_acme_orders_in_progress", func() float64 { return float64(m.inProgress.Load()) })
	set.NewGauge("sluice_acme_names_queued", queued)
	set.NewGauge("sluice_acme_certificates", func() float64 { return float64(m.certificates.Load()) })
	set.NewGauge("sluice_acme_renewals_due", func() float64 { return float64(m.overdue.Load()) })
	set.NewGauge("sluice_acme_first_expiry_seconds", func() float64 {
		at := m.firstExpiry.Load()
		if at == 0 {
			return math.Inf(1)
		}
		return time.Until(time.Unix(at, 0)).Seconds()
	})
	return m
}

// noteOutlook keeps what the schedule says.
func (m *counters) noteOutlook(names, due int, firstExpiry time.Time) {
	m.certificates.Store(int64(names))
	m.overdue.Store(int64(due))
	first := int64(0)
	if !firstExpiry.IsZero() {
		first = firstExpiry.Unix()
	}
	m.firstExpiry.Store(first)
}
