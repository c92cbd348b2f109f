package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mixWorkers is how many clients share the mixed load.
const mixWorkers = 16

// mixKind is one kind of request of the mixed load; weight says how often it is chosen.
type mixKind struct {
	name   string
	weight int
	send   func(ctx context.Context) error
	sent   *atomic.Int64
}

// mix is the load of the scenario memory: what an edge meets on a day, clients that leave and names
// that nobody has included.
type mix struct {
	url, tlsURL, addr string
	client            *http.Client
	fresh             *http.Client // a connection for each request
	kinds             []mixKind
	total             int // of the weights
	mu                sync.Mutex
	failed            []mixFailure
	pauses            []period
}

// mixFailure is a request that failed, in the time from its start to its error.
type mixFailure struct {
	period
	err error
}

// period is a stretch of time.
type period struct{ from, to time.Time }

// What is kept of failures, and how many of them are told.
const (
	maxMixErrors  = 10_000
	toldMixErrors = 5
)

// newMix prepares the load of a contestant with TLS.
func newMix(c *contestant, s *site) *mix {
	trustAll := &tls.Config{InsecureSkipVerify: true} // The certificate is one of ours, made for this run.
	m := &mix{
		url: c.plainURL, tlsURL: c.url, addr: strings.TrimPrefix(c.plainURL, "http://"),
		client: &http.Client{Timeout: answerTimeout, Transport: &http.Transport{
			TLSClientConfig: trustAll, MaxIdleConnsPerHost: mixWorkers,
		}},
		fresh: &http.Client{Timeout: answerTimeout, Transport: &http.Transport{
			TLSClientConfig: trustAll, DisableKeepAlives: true,
		}},
	}
	hosts := func() string { return hostName(rand.IntN(memoryHosts)) }
	get := func(client *http.Client, url, path string, size int) func(context.Context) error {
		return func(ctx context.Context) error { return m.ask(ctx, client, http.MethodGet, url+path, hosts(), 0, size) }
	}
	m.add("small", 450, get(m.client, m.url, "/small", smallBytes))
	m.add("10k", 200, get(m.client, m.url, "/10k", tenKBytes))
	m.add("1m", 10, get(m.client, m.url, "/1m", oneMBytes))
	m.add("post", 100, func(ctx context.Context) error {
		return m.ask(ctx, m.client, http.MethodPost, m.url+"/small", hosts(), postBytes, smallBytes)
	})
	m.add("upload", 20, func(ctx context.Context) error {
		return m.ask(ctx, m.client, http.MethodPost, m.url+"/small", hosts(), 40*tenKBytes, smallBytes)
	})
	m.add("close", 80, get(m.fresh, m.url, "/small", smallBytes))
	m.add("tls", 80, get(m.client, m.tlsURL, "/small", smallBytes))
	m.add("tls close", 20, get(m.fresh, m.tlsURL, "/small", smallBytes))
	m.add("changing", 40, func(ctx context.Context) error {
		style := routeStyles[rand.IntN(len(routeStyles))].name
		host := changingHost(rand.IntN(hostsPerStyle), style)
		return m.ask(ctx, m.client, http.MethodGet, m.url+"/small", host, 0, smallBytes)
	})
	m.add("unknown host", 20, m.askUnknown)
	m.add("client leaves", 10, m.leave)
	m.add("websocket", 10, func(ctx context.Context) error { return m.talk(ctx, s) })
	return m
}

func (m *mix) add(name string, weight int, send func(ctx context.Context) error) {
	m.kinds = append(m.kinds, mixKind{name, weight, send, new(atomic.Int64)})
	m.total += weight
}

// close ends the connections that are kept.
func (m *mix) close() { m.client.CloseIdleConnections() }

// Someone may stop this program for a while, as a machine that sleeps does. Timers go off all at
// once then, and what was under way fails without fault of the proxy's.
const (
	pulse     = 200 * time.Millisecond
	pauseFrom = 2 * time.Second
	// recovery is what sluice, which had the same pause or lost Redis to it, gets to find its feet.
	recovery = 10 * time.Second
)

// noticePauses looks for times in which this program did not run.
func (m *mix) noticePauses(ctx context.Context) {
	for last := time.Now(); ctx.Err() == nil; last = time.Now() {
		time.Sleep(pulse)
		if time.Since(last) > pauseFrom {
			m.excuse(last)
		}
	}
}

// excuse says that what fails from then on is the load test's own fault, until a little after now.
func (m *mix) excuse(from time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pauses = append(m.pauses, period{from, time.Now().Add(recovery)})
}

// run sends rate requests a second until ctx ends.
func (m *mix) run(ctx context.Context, rate int) {
	var all sync.WaitGroup
	all.Go(func() { m.noticePauses(ctx) })
	for range mixWorkers {
		all.Go(func() {
			tick := time.NewTicker(time.Second * mixWorkers / time.Duration(rate))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				kind, start := m.choose(), time.Now()
				// What was begun is ended: the end of the time is no error.
				if err := kind.send(context.WithoutCancel(ctx)); err != nil {
					m.fail(start, fmt.Errorf("%s: %w", kind.name, err))
				}
				kind.sent.Add(1)
			}
		})
	}
	all.Wait()
}

// choose picks a kind by weight.
func (m *mix) choose() *mixKind {
	n := rand.IntN(m.total)
	for i := range m.kinds {
		if n -= m.kinds[i].weight; n < 0 {
			return &m.kinds[i]
		}
	}
	panic("BUG: the weights do not add up")
}

// fail keeps an error for the report.
func (m *mix) fail(start time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.failed) < maxMixErrors {
		m.failed = append(m.failed, mixFailure{period{start, time.Now()}, err})
	}
}

// failures counts those that are excused, and returns an error of the others, nil without any. Only at
// the end is it known what all was held up.
func (m *mix) failures() (excused int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var counted []error
	for _, f := range m.failed {
		if slices.ContainsFunc(m.pauses, func(p period) bool { return f.from.Before(p.to) && p.from.Before(f.to) }) {
			excused++
		} else {
			counted = append(counted, f.err)
		}
	}
	if len(counted) == 0 {
		return excused, nil
	}
	return excused, fmt.Errorf("memory: %d requests failed, the first of them: %w", len(counted),
		errors.Join(counted[:min(len(counted), toldMixErrors)]...))
}

func (m *mix) counts() map[string]int64 {
	counts := map[string]int64{}
	for _, k := range m.kinds {
		counts[k.name] = k.sent.Load()
	}
	return counts
}

// ask sends one request and wants 200 and size bytes.
func (m *mix) ask(ctx context.Context, client *http.Client, method, url, host string, body, size int) error {
	var content io.Reader = http.NoBody
	if body > 0 {
		content = bytes.NewReader(make([]byte, body))
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || n != int64(size) {
		return fmt.Errorf("status %d, %d bytes, X-Sluice-Error %q; want 200 and %d bytes",
			resp.StatusCode, n, resp.Header.Get("X-Sluice-Error"), size)
	}
	return nil
}

// askUnknown asks for a name that nobody has, a new one each time.
func (m *mix) askUnknown(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/small", http.NoBody)
	if err != nil {
		return err
	}
	req.Host = fmt.Sprintf("n%x.absent.test", rand.Uint64())
	resp, err := m.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if cause := resp.Header.Get("X-Sluice-Error"); cause != "unknown_host" && cause != "lookup_limited" {
		return fmt.Errorf("status %d, X-Sluice-Error %q for a name that nobody has", resp.StatusCode, cause)
	}
	return nil
}

// leave asks for a large answer and goes away while it comes.
func (m *mix) leave(ctx context.Context) error {
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /1m HTTP/1.1\r\nHost: %s\r\n\r\n", hostName(0)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, tenKBytes))
	return err
}

// talk opens a WebSocket, has some messages echoed, and goes.
func (m *mix) talk(ctx context.Context, s *site) error {
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if err := upgrade(conn, r, webSocketHost); err != nil {
		return err
	}
	for range 5 {
		if _, err := echo(conn, r, s.frame); err != nil {
			return err
		}
	}
	return nil
}

func (m *mix) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: answerTimeout}
	conn, err := d.DialContext(ctx, "tcp", m.addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(answerTimeout))
}
