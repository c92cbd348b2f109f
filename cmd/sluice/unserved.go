package main

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// unservedPause is the least time between two log lines of one listener about clients without a
// certificate: scanners come by address, without a name, all day.
const unservedPause = 10 * time.Second

// unserved counts the handshakes for which a listener has no certificate.
type unserved struct {
	log      *slog.Logger
	listener string
	count    *metrics.Counter
	next     atomic.Int64 // unix nanoseconds: no line before
	silent   atomic.Int64 // handshakes since the last line
}

func newUnserved(set *metrics.Set, log *slog.Logger, listener string) *unserved {
	return &unserved{log: log, listener: listener, count: set.GetOrCreateCounter("sluice_tls_unrecognized_names_total")}
}

// note is certs.Options.Unserved.
func (u *unserved) note(name string, client netip.Addr) {
	u.count.Inc()
	now, next := time.Now().UnixNano(), u.next.Load()
	if now < next || !u.next.CompareAndSwap(next, now+int64(unservedPause)) {
		u.silent.Add(1)
		return
	}
	u.log.Warn("tls handshake refused: no certificate for the name (unrecognized_name); set https.cert, or add one",
		"listener", u.listener, "name", name, "client", client.String(), "not_logged", u.silent.Swap(0))
}
