package proxy

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// Limits that can be hit, as label values of sluice_limited_total.
const (
	limitConnections = iota
	limitConnectionsPerIP
	limitBackend
	limitTunnels
	limitDescriptors
	limitStalledStreams
	limitHandshakes
	limitWatches
	limitCount
)

var limitNames = [limitCount]string{
	"max_connections", "max_connections_per_ip", "max_backend_connections", "max_tunnels", "file_descriptors",
	"stalled_streams",
	"max_handshakes_per_second", "epoll_watches",
}

// Directions of a tunnel.
const (
	tunnelUp = iota
	tunnelDown
)

// proxyMetrics are the series of one Server, in the set that it was given.
type proxyMetrics struct {
	tally          tally // of every request
	errors         [kindCount]*metrics.Counter
	attemptErrors  [kindCount]*metrics.Counter
	retries        [kindCount]*metrics.Counter
	limited        [limitCount]*metrics.Counter
	tunnelBytes    [2]*metrics.Counter
	retriesRefused *metrics.Counter
	marks          *metrics.Counter
	panics         *metrics.Counter
	deadIdle       *metrics.Counter
	surplus        *metrics.Counter
	connections    *metrics.Counter
	handshakes     *metrics.Counter
	proxyHeaders   *metrics.Counter
	tunnelsTotal   *metrics.Counter

	droppedForwarding *metrics.Counter
	droppedLookalike  *metrics.Counter

	redirects [redirectCount]*metrics.Counter

	h2Connections *metrics.Counter
	h2Requests    *metrics.Counter
	h2Errors      [2]*metrics.Counter
	floods        [floodCount]*metrics.Counter

	h3Connections *metrics.Counter
	h3Requests    *metrics.Counter
	h3Errors      [2]*metrics.Counter // by scope
	h3Floods      [floodCount]*metrics.Counter
	h3Retries     *metrics.Counter

	pools   atomic.Int64
	streams atomic.Int64 // requests under way on connections that carry many
}

// What a redirect of ours is for.
const (
	redirectHTTPS = iota
	redirectHost
	redirectCount
)

// What a client's fault ends.
const (
	scopeConnection = iota
	scopeStream
)

// Kinds of floods.
const (
	floodControl = iota // frames that carry no request
	floodResets         // requests that are begun and thrown away
	floodCount
)

func newProxyMetrics(set *metrics.Set, s *Server) *proxyMetrics {
	m := &proxyMetrics{
		retriesRefused:    set.NewCounter("sluice_retries_refused_total"),
		marks:             set.NewCounter("sluice_backend_marks_total"),
		panics:            set.NewCounter("sluice_panics_total"),
		deadIdle:          set.NewCounter("sluice_backend_idle_dead_total"),
		surplus:           set.NewCounter("sluice_backend_surplus_bytes_total"),
		connections:       set.NewCounter("sluice_connections_total"),
		handshakes:        set.NewCounter("sluice_tls_handshake_errors_total"),
		proxyHeaders:      set.NewCounter("sluice_proxy_header_errors_total"),
		tunnelsTotal:      set.NewCounter("sluice_tunnels_total"),
		droppedForwarding: set.NewCounter(`sluice_fields_dropped_total{reason="forwarding"}`),
		droppedLookalike:  set.NewCounter(`sluice_fields_dropped_total{reason="lookalike"}`),
	}
	m.tally.init(set)
	for k := KindNone + 1; k < kindCount; k++ {
		m.errors[k] = set.NewCounter(`sluice_errors_total{cause="` + k.String() + `"}`)
		if outcomes[k].source == SourceBackend {
			m.attemptErrors[k] = set.NewCounter(`sluice_attempt_errors_total{cause="` + k.String() + `"}`)
			m.retries[k] = set.NewCounter(`sluice_retries_total{cause="` + k.String() + `"}`)
		}
	}
	for i, name := range limitNames {
		m.limited[i] = set.NewCounter(`sluice_limited_total{limit="` + name + `"}`)
	}
	m.tunnelBytes[tunnelUp] = set.NewCounter(`sluice_tunnel_bytes_total{direction="up"}`)
	m.tunnelBytes[tunnelDown] = set.NewCounter(`sluice_tunnel_bytes_total{direction="down"}`)
	for i, to := range [redirectCount]string{"https", "canonical_host"} {
		m.redirects[i] = set.NewCounter(`sluice_redirects_total{to="` + to + `"}`)
	}
	m.registerH2(set, s)
	m.registerH3(set, s)
	set.NewGauge("sluice_backend_pools", func() float64 { return float64(m.pools.Load()) })
	set.NewGauge("sluice_connections", func() float64 { return float64(s.conns.count()) })
	set.NewGauge("sluice_connections_parked", func() float64 { return float64(s.idle.parked()) })
	set.NewGauge("sluice_tunnels", func() float64 { return float64(s.tunnels.Load()) })
	set.NewGauge("sluice_draining", func() float64 {
		if s.draining.Load() {
			return 1
		}
		return 0
	})
	return m
}

// registerH2 makes the series of HTTP/2.
func (m *proxyMetrics) registerH2(set *metrics.Set, s *Server) {
	m.h2Connections = set.NewCounter("sluice_http2_connections_total")
	m.h2Requests = set.NewCounter("sluice_http2_requests_total")
	m.h2Errors[scopeConnection] = set.NewCounter(`sluice_http2_errors_total{scope="connection"}`)
	m.h2Errors[scopeStream] = set.NewCounter(`sluice_http2_errors_total{scope="stream"}`)
	m.floods[floodControl] = set.NewCounter(`sluice_http2_floods_total{reason="control_frames"}`)
	m.floods[floodResets] = set.NewCounter(`sluice_http2_floods_total{reason="resets"}`)
	set.NewGauge("sluice_http2_connections", func() float64 { return float64(s.h2.count()) })
	set.NewGauge("sluice_streams", func() float64 { return float64(m.streams.Load()) })
}

// registerH3 makes the series of HTTP/3.
func (m *proxyMetrics) registerH3(set *metrics.Set, s *Server) {
	m.h3Connections = set.NewCounter("sluice_http3_connections_total")
	m.h3Requests = set.NewCounter("sluice_http3_requests_total")
	m.h3Errors[scopeConnection] = set.NewCounter(`sluice_http3_errors_total{scope="connection"}`)
	m.h3Errors[scopeStream] = set.NewCounter(`sluice_http3_errors_total{scope="stream"}`)
	m.h3Floods[floodControl] = set.NewCounter(`sluice_http3_floods_total{reason="control_frames"}`)
	m.h3Floods[floodResets] = set.NewCounter(`sluice_http3_floods_total{reason="resets"}`)
	m.h3Retries = set.NewCounter("sluice_http3_retries_total")
	set.NewGauge("sluice_http3_connections", func() float64 { return float64(s.h3.count()) })
}
