package proxy_test

import (
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is the network between an edge and one backend, in the hands of Toxiproxy.
type wire struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// newWire leads to the backend at addr until the test ends. Each toxic is one of Toxiproxy's, as its API takes them.
func newWire(t testing.TB, addr string, toxics ...string) *wire {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wire{t, toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", addr)}
	w.mend()
	t.Cleanup(w.cut)
	w.poison(toxics...)
	return w
}

// url is the backend as the edge sees it.
func (w *wire) url() string { return "http://" + w.proxy.Listen }

// poison adds toxics, to connections that are open as well.
func (w *wire) poison(toxics ...string) {
	w.t.Helper()
	for _, text := range toxics {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			w.t.Fatalf("toxic %s: %v", text, err)
		}
	}
}

// cut ends all connections and refuses new ones; mend takes them again at the same address.
func (w *wire) cut() { w.proxy.Stop() }

func (w *wire) mend() {
	w.t.Helper()
	if err := w.proxy.Start(); err != nil {
		w.t.Fatal(err)
	}
}
