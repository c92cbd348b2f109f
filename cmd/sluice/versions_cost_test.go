package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"sluice/internal/backendtest"
	"sluice/internal/certtest"
)

// What a small request, and a MiB of answers, costs the program in each version, by clients in Go: 8
// connections, 8 requests at once on each where the version allows. The figures are printed;
// SLUICE_TEST_REQUESTS takes more than the few that only show that all of it works.
func TestProcess_CostOfVersions(t *testing.T) {
	const connections, streams = 8, 8
	requests := 4000
	if text := os.Getenv("SLUICE_TEST_REQUESTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		requests = n
	}
	const mib = 1 << 20
	backend := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Path[1:]) // "/" stands for none
		_, _ = w.Write(make([]byte, size))
	}))
	ca := certtest.New(t)
	port := quicPort(t)
	flags, _, _ := quicFlags(t, port, ca.Issue(t, "www.example.com"))
	p := launch(t, append(flags, routesFile(t, map[string]string{"www.example.com": backend.URL()}))...)
	p.awaitLog("protocol=http/3")
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "www.example.com"}
	for _, version := range []struct {
		name    string
		streams int
		client  func() http.RoundTripper
	}{
		{"HTTP/1.1", 1, func() http.RoundTripper { return &http.Transport{TLSClientConfig: config} }},
		{"HTTP/2.0", streams, func() http.RoundTripper { return &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true} }},
		{"HTTP/3.0", streams, func() http.RoundTripper { return &http3.Transport{TLSClientConfig: config} }},
	} {
		clients := make([]http.RoundTripper, connections)
		ask := func(c http.RoundTripper, size int) error {
			url := fmt.Sprintf("https://127.0.0.1:%d/%d", port, size)
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			q.Host = "www.example.com"
			resp, err := c.RoundTrip(q)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) || resp.Proto != version.name {
				return fmt.Errorf("got %s %d and %d bytes: %w", resp.Proto, resp.StatusCode, n, err)
			}
			return nil
		}
		for i := range clients {
			clients[i] = version.client()
			if err := ask(clients[i], 5); err != nil {
				t.Fatalf("%s: %v", version.name, err)
			}
		}
		measure := func(requests, size int) (cost time.Duration, rate float64) {
			begin, used := time.Now(), processorTime(t, p)
			var work sync.WaitGroup
			for _, c := range clients {
				for range version.streams {
					work.Go(func() {
						for range requests / connections / version.streams {
							if err := ask(c, size); err != nil {
								t.Errorf("%s: %v", version.name, err)
								return
							}
						}
					})
				}
			}
			work.Wait()
			took := time.Since(begin)
			return (processorTime(t, p) - used) / time.Duration(requests), float64(requests) / took.Seconds()
		}
		small, rate := measure(requests, 5)
		large, mibs := measure(max(requests/50, connections*streams), mib)
		t.Logf("%s: a request takes %v of processor time, %.0f in a second; a MiB takes %v, %.0f in a second",
			version.name, small, rate, large, mibs)
		for _, c := range clients {
			switch c := c.(type) {
			case *http.Transport:
				c.CloseIdleConnections()
			case *http3.Transport:
				_ = c.Close()
			}
		}
	}
}

// processorTime returns how long a process has run so far, in all its threads.
func processorTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
