package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// backends are sample applications, one for each address that the routes name.
type backends struct {
	addresses []string
	servers   []*http.Server
}

func startBackends(r routes) (*backends, error) {
	addresses, err := r.addresses()
	if err != nil {
		return nil, err
	}
	b := &backends{addresses: addresses}
	for i, address := range addresses {
		ln, err := net.Listen("tcp4", address)
		if err != nil {
			b.close()
			return nil, fmt.Errorf("start sample backend %d: %w", i+1, err)
		}
		server := &http.Server{
			Handler:           application(fmt.Sprintf("backend %d (%s)", i+1, address)),
			ReadHeaderTimeout: 10 * time.Second,
		}
		b.servers = append(b.servers, server)
		go func() { _ = server.Serve(ln) }() // It ends with close.
	}
	return b, nil
}

func (b *backends) close() {
	for _, server := range b.servers {
		_ = server.Close() // Its connections are sluice's, which has ended.
	}
}

// String names the addresses.
func (b *backends) String() string {
	return fmt.Sprintf("%d sample backends (%s)", len(b.addresses), strings.Join(b.addresses, ", "))
}

// application shows the request as it arrived, and at /events one event a second.
func application(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "This is %s. Your request as it arrived here:\n\n", name)
		fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
		_ = r.Header.Write(w) // A client that left needs no answer.
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 1; ; n++ {
			fmt.Fprintf(w, "data: event %d from %s\n\n", n, name)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	return mux
}
