package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// TestHandover_LosesNoRequest deploys three times under load. A client of its own counts: that of
// net/http would try again, unseen, what it lost with a connection.
func TestHandover_LosesNoRequest(t *testing.T) {
	requests := int64(100_000)
	if testing.Short() {
		requests = 20_000
	}
	const deploys, clients = 3, 32
	backend := backendtest.Canned(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	logFile := filepath.Join(t.TempDir(), "access.log")
	d := newDeployment(t, routesFile(t, map[string]string{"www.example.com": backend.URL()}), "--server-access-log="+logFile)
	d.awaitStatus("www.example.com", http.StatusOK)
	d.client.CloseIdleConnections() // the old process would wait for their next request

	l := &load{least: requests}
	t.Cleanup(l.stop)
	for range clients {
		l.add(d.base, loadRequests())
	}
	// A health check on a connection that it keeps, and the admin listener likewise.
	l.add(d.base, []string{"GET / HTTP/1.1\r\nHost: __ping__\r\n\r\n"})
	l.add(d.admin, []string{"GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n"})
	for i := range int64(deploys) {
		d.await("load", func() bool { return l.answered.Load() >= requests*(i+1)/(deploys+1) })
		installBinary(t, d.binary)
		before := l.answered.Load()
		old := d.handOver()
		if status := d.exitStatusOf(old); status != exitOK {
			t.Errorf("the old process, pid %d, ended with status %d", old, status)
		}
		t.Logf("pid %d handed over to %d, %d answers meanwhile", old, d.pid, l.answered.Load()-before)
	}
	l.stop()
	if first := l.first.Load(); first != nil {
		t.Fatalf("%d of %d requests failed, the first one: %v", l.failed.Load(), l.failed.Load()+l.answered.Load(), *first)
	}
	t.Logf("%d requests answered, on %d connections", l.answered.Load(), l.connections.Load())
	d.await("a line for each request", func() bool { return countLines(t, logFile, "/load") == l.logged.Load() })
}

// loadRequests is a mix: without a body, with one, and the last of its connection.
func loadRequests() []string {
	get := "GET /load HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
	post := "POST /load HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000)
	last := "GET /load HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
	mix := make([]string, 0, 50)
	for range 24 {
		mix = append(mix, get, post)
	}
	return append(mix, get, last)
}

// countLines counts the lines of a file with a text in them.
func countLines(t *testing.T, file, text string) (n int64) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}

// enoughFailures end a load: nothing is learned from more.
const enoughFailures = 100

// load is requests that go on until it is stopped, and beyond if they are not many enough yet.
type load struct {
	least       int64
	stopped     atomic.Bool
	answered    atomic.Int64
	logged      atomic.Int64 // those that leave a line in the access log
	failed      atomic.Int64
	connections atomic.Int64
	first       atomic.Pointer[error] // what failed first
	clients     sync.WaitGroup
}

// add starts a client that sends the requests in turn over one connection, and over the next one
// when an answer has announced the end of it.
func (l *load) add(base string, requests []string) {
	c := &loadClient{load: l, address: strings.TrimPrefix(base, "http://")}
	l.clients.Go(func() {
		defer c.close()
		for i := 0; !l.enough(); i++ {
			request := requests[i%len(requests)]
			if err := c.send(request); err != nil {
				l.failed.Add(1)
				l.first.CompareAndSwap(nil, &err)
				c.close()
				continue
			}
			l.answered.Add(1)
			if strings.Contains(request, "/load") {
				l.logged.Add(1)
			}
		}
	})
}

func (l *load) enough() bool {
	return l.stopped.Load() && l.answered.Load() >= l.least || l.failed.Load() >= enoughFailures
}

// stop ends the load and waits for its clients.
func (l *load) stop() {
	l.stopped.Store(true)
	l.clients.Wait()
}

// loadClient is one client of a load. Nothing is sent twice.
type loadClient struct {
	load    *load
	address string
	conn    net.Conn // nil when a new one is needed
	reader  *bufio.Reader
}

// send sends one request and reads its answer.
func (c *loadClient) send(request string) error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		c.load.connections.Add(1)
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, request); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if answer.Close {
		c.close()
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status + " " + answer.Header.Get("X-Sluice-Error"))
	}
	return nil
}

func (c *loadClient) close() {
	if c.conn != nil {
		_ = c.conn.Close() // the answer has been read
		c.conn = nil
	}
}
