package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// idleFigures is what connections cost that do nothing.
type idleFigures struct {
	Connections int     `json:"connections"`
	BytesEach   float64 `json:"bytes_each"`          // of the proxy's memory; the kernel's buffers are not in it
	CPUShare    float64 `json:"cpu_share_of_a_core"` // while nothing else happens
}

// crowd is connections that were used once and are kept open.
type crowd struct {
	figures *idleFigures // nil unless they were taken
	conns   []net.Conn
}

const (
	// crowdWorkers open connections side by side.
	crowdWorkers = 16
	// settleTime is what a proxy gets to put aside what idle connections do not need.
	settleTime      = 6 * time.Second
	shortSettleTime = 2 * time.Second
	shortIdleShare  = 10 // of the connections, in the short form
	// watchTime is how long the CPU time of idling is taken.
	watchTime = 2 * time.Second
	// spareConnections are those of the load beside a crowd, and files of other kinds.
	spareConnections = 1000
)

// idleConnections is how many of the wanted connections the limit of files allows; in a proxy each
// client may need a second one.
func idleConnections(wanted int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return spareConnections
	}
	return min(wanted, int(min(limit.Cur, 1<<30)-2*spareConnections)/2)
}

// holdIdle opens n idle connections, or as many as there may be. With rest it lets them settle for so
// long and takes what they cost.
func holdIdle(ctx context.Context, e entrant, n int, rest time.Duration) (*crowd, error) {
	before, err := e.proc.memory()
	if err != nil {
		return nil, err
	}
	c := &crowd{}
	if err := c.open(e, idleConnections(n)); err != nil {
		c.close()
		return nil, err
	}
	if rest == 0 {
		return c, nil
	}
	c.figures = &idleFigures{Connections: len(c.conns)}
	if err := c.watch(ctx, e, before, rest); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// watch fills in the figures.
func (c *crowd) watch(ctx context.Context, e entrant, before int64, rest time.Duration) error {
	if err := pause(ctx, rest); err != nil {
		return err
	}
	after, err := e.proc.memory()
	if err != nil {
		return err
	}
	used, err := e.proc.cpuTime()
	if err != nil {
		return err
	}
	if err := pause(ctx, watchTime); err != nil {
		return err
	}
	usedThen, err := e.proc.cpuTime()
	c.figures.BytesEach = float64(after-before) / float64(len(c.conns))
	c.figures.CPUShare = float64(usedThen-used) / float64(watchTime)
	return err
}

// pause waits, unless the program is to end.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// open opens n connections and sends one request on each.
func (c *crowd) open(e entrant, n int) error {
	where, err := url.Parse(e.url)
	if err != nil {
		return err
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for worker := range crowdWorkers {
		all.Go(func() {
			for i := worker; i < n; i += crowdWorkers {
				conn, err := openIdle(where.Host, e.work)
				mu.Lock()
				if err != nil && first == nil {
					first = fmt.Errorf("open connection %d of %d: %w", len(c.conns)+1, n, err)
				}
				failed := first != nil
				if err == nil {
					c.conns = append(c.conns, conn)
				}
				mu.Unlock()
				if failed {
					return
				}
			}
		})
	}
	all.Wait()
	return first
}

// openIdle opens one connection and uses it once.
func openIdle(addr string, w work) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return nil, err
	}
	if w.tls {
		// The certificate is one of ours, made for this run.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if err := useOnce(conn, w); err != nil {
		_ = conn.Close() // The error that matters is the one above.
		return nil, err
	}
	return conn, nil
}

func useOnce(conn net.Conn, w work) error {
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", w.path, hostName(0)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Close {
		return fmt.Errorf("status %d, close %v; want 200 and a connection that stays", resp.StatusCode, resp.Close)
	}
	return conn.SetDeadline(time.Time{})
}

// askAgain uses every connection once more: memory that was saved by forgetting them does not count.
func (c *crowd) askAgain(w work) error {
	for i, conn := range c.conns {
		if err := useOnce(conn, w); err != nil {
			return fmt.Errorf("idle connection %d is used again: %w", i+1, err)
		}
	}
	return nil
}

func (c *crowd) close() {
	for _, conn := range c.conns {
		_ = conn.Close() // Nothing is expected of it any more.
	}
}
