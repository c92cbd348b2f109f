// Package admin serves the operator's side of the program over HTTP: metrics, health, readiness
// and profiles. It is meant for a listener of its own on loopback, as profiles show what the
// process is doing; it never carries traffic of clients and uses no global mux.
package admin

import (
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options says what the handler shows. The zero value serves process metrics and is always ready.
type Options struct {
	// Sets are written to /metrics in this order, before the metrics of the process and of Go.
	Sets []*metrics.Set
	// Ready returns nil when the process can take traffic, and otherwise the reason why not, which
	// becomes the body of /readyz. It is called for each request to /readyz, concurrently, and must
	// not block. Nil means always ready.
	Ready func() error
}

// index is the page at "/".
const index = `sluice
/metrics       counters and histograms in the Prometheus text format
/healthz       200 while the process lives
/readyz        200 while it can take traffic, otherwise 503 and the reason
/debug/pprof/  profiles of the running process
`

// Handler returns the handler of all administration pages. GET and HEAD are the only methods.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, index) })
	mux.HandleFunc("/metrics", o.serveMetrics)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("/readyz", o.serveReady)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return readOnly(mux)
}

// readOnly refuses every method that is not GET or HEAD, and limits how long an answer may take to
// be read. Profiles have no limit: one of them takes as long as its caller asks for.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			// An error means that there is no connection below, and nothing to wait for.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeText(w, http.StatusMethodNotAllowed, "only GET and HEAD\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (o Options) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, set := range o.Sets {
		set.WritePrometheus(w)
	}
	metrics.WriteProcessMetrics(w)
	metrics.WriteFDMetrics(w)
}

func (o Options) serveReady(w http.ResponseWriter, _ *http.Request) {
	if o.Ready == nil {
		writeText(w, http.StatusOK, "ok\n")
		return
	}
	if err := o.Ready(); err != nil {
		reason := strings.Join(strings.Fields(err.Error()), " ") // one line, whatever the error holds
		writeText(w, http.StatusServiceUnavailable, fmt.Sprintf("not ready: %s\n", reason))
		return
	}
	writeText(w, http.StatusOK, "ok\n")
}

// writeText answers with a short plain text that nobody may cache. A client that went away is no
// error here.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
