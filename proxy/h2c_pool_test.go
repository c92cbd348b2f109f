package proxy

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// newHeldH2C returns connections to a backend whose dials wait for release, and what becomes of them.
func newHeldH2C(t *testing.T) (h *h2cConns, release chan struct{}, closed chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release, closed = make(chan struct{}), make(chan struct{}, 8)
	b := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Protocols: new(http.Protocols),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				closed <- struct{}{}
			}
		},
	}
	b.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = b.Serve(ln) }()
	t.Cleanup(func() { _ = b.Close() })
	h = newH2CConns(ln.Addr().String())
	dial := h.transport.DialContext
	h.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		<-release
		return dial(ctx, network, address)
	}
	return h, release, closed
}

// A connection that is made for a pool which is forgotten meanwhile serves those who wait for it, and ends with the
// last of them, at once if they have given up. So does one that is asked for later, by a request that stood in a queue.
func TestH2CConns_Retire(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		requests    int
		givesUp     bool
		retireFirst bool
	}{
		"waiting": {requests: 3}, "gave up": {requests: 1, givesUp: true}, "queued": {requests: 1, retireFirst: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, release, closed := newHeldH2C(t)
			if tt.retireFirst {
				h.retire()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, tt.requests)
			for range tt.requests {
				go func() {
					cc, err := h.reserve(ctx, time.Minute)
					if err == nil {
						err = callH2C(t, cc)
					}
					done <- err
				}()
			}
			for waiting := 0; waiting < tt.requests; {
				time.Sleep(time.Millisecond)
				h.mu.Lock()
				waiting = h.waiting
				h.mu.Unlock()
			}
			if tt.givesUp {
				cancel()
				<-done
				tt.requests = 0
			}
			h.retire()
			close(release)
			for range tt.requests {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			select {
			case <-closed:
			case <-time.After(5 * time.Second):
				t.Error("the connection outlives its pool")
			}
		})
	}
}

func callH2C(t *testing.T, cc *http.ClientConn) error {
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := cc.RoundTrip(q)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
