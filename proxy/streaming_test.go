package proxy_test

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/backendtest"
)

// An event reaches the client before the backend has sent the next: nothing is held back for more.
func TestStreaming_EventsArriveAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, head, event string }{
		{"chunked", "Transfer-Encoding: chunked", "e\r\ndata: event 0\n\r\n"},
		{"until close", "Connection: close", "data: event 0\n"},
		{"length", "Content-Length: 28", "data: event 0\n"},
	} {
		seen := make(chan struct{})
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			_, _ = c.WriteString("HTTP/1.1 200 OK\r\n" + tt.head + "\r\n\r\n")
			for range 3 { // The head, and each of two events, is waited for.
				select {
				case <-seen:
				case <-time.After(patience):
					return
				}
				_, _ = c.WriteString(tt.event)
			}
		})
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("GET", "/events", "a.example"))
		a, err := readAnswerHead(c.r, "GET")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			seen <- struct{}{}
			event := make([]byte, len("data: event 0\n"))
			if _, err := io.ReadFull(a.Body, event); err != nil || string(event) != "data: event 0\n" {
				t.Fatalf("%s: event %d is %q, %v", tt.name, i, event, err)
			}
		}
		c.reset()
		close(seen)
	}
}

// bulk is the size of the bodies that must not be held in memory.
const bulk = 32 << 20

// Large bodies pass without being gathered: what the process allocates meanwhile is a small part of them. Not parallel, so
// that nobody else allocates.
func TestStreaming_BoundedMemory(t *testing.T) {
	piece, buf := make([]byte, 64<<10), make([]byte, 64<<10)
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		buf := make([]byte, 64<<10)
		for {
			q, err := c.ReadHead()
			if err != nil {
				return
			}
			body, err := c.Body(q)
			if err != nil {
				return
			}
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, buf)
			size, _ := strconv.Atoi(strings.TrimPrefix(q.Target, "/"))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Got: %d\r\nContent-Length: %d\r\n\r\n", n, size)
			for ; size > 0; size -= len(piece) {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}
	})
	e := newEdge(t, one("a.example", b.URL()))
	for _, tt := range []struct {
		name, framing string
		up, down      int
	}{
		{"up", "Content-Length: " + strconv.Itoa(bulk), bulk, 0},
		{"up, chunked", "Transfer-Encoding: chunked", bulk, 0},
		{"down", "X-Y: 1", 0, bulk},
	} {
		c := e.dial()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.send(request("POST", "/"+strconv.Itoa(tt.down), "a.example", tt.framing))
		chunked := strings.Contains(tt.framing, "chunked")
		for left := tt.up; left > 0; left -= len(piece) {
			if chunked {
				c.send("10000\r\n")
			}
			if _, err := c.Write(piece); err != nil {
				t.Fatal(err)
			}
			if chunked {
				c.send("\r\n")
			}
		}
		if chunked {
			c.send("0\r\n\r\n")
		}
		a, err := readAnswerHead(c.r, "POST")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, a.Body, buf)
		runtime.ReadMemStats(&after)
		if err != nil || n != int64(tt.down) || a.Header.Get("X-Got") != strconv.Itoa(tt.up) {
			t.Errorf("%s: %d bytes down, %s up, %v", tt.name, n, a.Header.Get("X-Got"), err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > bulk/8 {
			t.Errorf("%s: %d bytes allocated for a body of %d", tt.name, used, bulk)
		}
	}
}

// Slow is not dead: a backend or client that moves at all is never cut, however long it takes.
func TestStreaming_SlowButLiveIsNeverCut(t *testing.T) {
	t.Parallel()
	const pieces, pause, limit = 7, 300 * time.Millisecond, 1500 * time.Millisecond
	limits := func(s *setup) {
		s.ResponseTimeout, s.HeaderTimeout = limit, limit
		s.BackendBodyIdleTimeout, s.BodyIdleTimeout = limit, limit
	}
	var wg sync.WaitGroup
	for _, head := range []string{"Content-Length: 7", "Connection: close"} {
		b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send("HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n"),
			trickle(pieces, pause, "x"))
		c := newEdge(t, one("a.example", b.URL()), limits).dial()
		c.send(request("GET", "/", "a.example"))
		wg.Go(func() {
			if a, err := readAnswer(c.r, "GET"); err != nil || a.body != strings.Repeat("x", pieces) {
				t.Errorf("backend trickles, %s: %v, %v", head, a, err)
			}
		})
	}
	for _, tt := range []struct{ field, piece, end string }{
		{"Content-Length: 7", "x", ""},
		{"Content-Length: 70000", strings.Repeat("x", 10000), ""},
		{"Transfer-Encoding: chunked", "1\r\nx\r\n", "0\r\n\r\n"},
	} {
		c := newEdge(t, one("a.example", backendtest.Echo(t, "b").URL()), limits).dial()
		c.send(request("POST", "/", "a.example", tt.field))
		wg.Go(func() {
			for range pieces {
				time.Sleep(pause)
				_, _ = io.WriteString(c, tt.piece) // What fails shows in the answer.
			}
			_, _ = io.WriteString(c, tt.end)
			if a, err := readAnswer(c.r, "POST"); err != nil || a.StatusCode != 200 || a.Close {
				t.Errorf("client trickles, %s: %v, %v", tt.field, a, err)
			}
		})
	}
	wg.Wait()
}

// trickle sends a piece, again and again with pauses.
func trickle(n int, pause time.Duration, piece string) backendtest.Step {
	return func(_ *backendtest.Script, c *backendtest.Conn) error {
		for range n {
			c.Sleep(pause)
			if _, err := c.WriteString(piece); err != nil {
				return err
			}
		}
		return nil
	}
}

// A backend that stops in its answer is cut, and the client can't take what it got for the whole.
func TestStreaming_StalledAnswerIsCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		end          backendtest.Step
	}{
		{"length, stalls", "Content-Length: 10\r\n\r\nhalf", backendtest.WaitEnd(patience)},
		{"chunked, stalls", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", backendtest.WaitEnd(patience)},
		{"until close, stalls", "Connection: close\r\n\r\nhalf", backendtest.WaitEnd(patience)},
		{"length, FIN", "Content-Length: 10\r\n\r\nhalf", backendtest.Close()},
		{"chunked, FIN in a chunk", "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf", backendtest.Close()},
		{"chunked, FIN after a chunk", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", backendtest.Close()},
		{"chunked, FIN before the end", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", backendtest.Close()},
		{"chunked, nonsense", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalfnonsense", backendtest.WaitEnd(patience)},
		{"until close, RST", "Connection: close\r\n\r\nhalf", backendtest.Reset()},
	} {
		b := backendtest.Scripted(t, backendtest.Head(), backendtest.Send("HTTP/1.1 200 OK\r\n"+tt.answer), tt.end)
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.BackendBodyIdleTimeout = 200 * time.Millisecond })
		for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
			c := e.dial()
			c.send("GET / " + proto + "\r\nHost: a.example\r\n\r\n")
			a, err := readAnswer(c.r, "GET")
			if err == nil && a.cause() == "" { // What can still be said in place of a first byte is said.
				t.Errorf("%s, %s: %d %q looks complete", tt.name, proto, a.StatusCode, a.body)
			}
			if isTimeout(err) {
				t.Errorf("%s, %s: the connection was left open", tt.name, proto)
			}
		}
	}
}

// A client that stops in its upload is told so, and the backend does not take the part for the whole.
func TestStreaming_StalledUploadIs408(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ field, body string }{
		{"Content-Length: 10", "half"},
		{"Content-Length: 100000", strings.Repeat("x", 50000)},
		{"Transfer-Encoding: chunked", "4\r\nhalf\r\n"},
	} {
		var whole atomic.Bool
		b := backendtest.Raw(t, func(c *backendtest.Conn) {
			if _, err := c.ReadRequest(); err == nil {
				whole.Store(true)
			}
		})
		e := newEdge(t, one("a.example", b.URL()), func(s *setup) { s.BodyIdleTimeout = 200 * time.Millisecond })
		c := e.dial()
		c.send(request("POST", "/", "a.example", tt.field) + tt.body)
		wantStatus(t, c.answer("POST"), 408, "request_timeout")
		c.wantEnd()
		eventually(t, "the end of the backend's connection", func() bool { return b.OpenConns() == 0 })
		if whole.Load() {
			t.Errorf("%s: the backend took the part for the whole", tt.field)
		}
	}
}

// A client that reads nothing makes the backend wait; what lies between them is bounded.
func TestStreaming_BackPressure(t *testing.T) {
	t.Parallel()
	const total = 128 << 20
	var sent atomic.Int64
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", total)
		piece := make([]byte, 64<<10)
		for range total / len(piece) {
			n, err := c.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("GET", "/", "a.example"))
	last, since := int64(-1), time.Now()
	eventually(t, "the backend to be held back", func() bool {
		if n := sent.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 300*time.Millisecond
	})
	if last > total/2 {
		t.Errorf("the backend could send %d bytes to a client that reads none", last)
	}
	a, err := readAnswerHead(c.r, "GET")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := discard(a.Body); n != total || err != nil {
		t.Errorf("then the client read %d of %d bytes: %v", n, total, err)
	}
}

// A backend that refuses an upload in its midst is heard, although the client is still sending.
func TestStreaming_EarlyAnswerWhileUploading(t *testing.T) {
	t.Parallel()
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
	for _, tt := range []struct {
		name  string
		steps []backendtest.Step
	}{
		{"and closes", []backendtest.Step{backendtest.Head(), backendtest.Send(refusal), backendtest.Close()}},
		{"and reads no more", []backendtest.Step{
			backendtest.Head(), backendtest.Send(refusal), backendtest.Wait(300 * time.Millisecond), backendtest.Reset(),
		}},
		{"after some bytes", []backendtest.Step{
			backendtest.Head(), backendtest.Bytes(1 << 20), backendtest.Send(refusal), backendtest.CloseWrite(),
			backendtest.Wait(300 * time.Millisecond),
		}},
	} {
		b := backendtest.Scripted(t, tt.steps...)
		e := newEdge(t, one("a.example", b.URL()))
		c := e.dial()
		c.send(request("POST", "/", "a.example", "Content-Length: "+strconv.Itoa(bulk)))
		go func() {
			piece := make([]byte, 64<<10)
			for range bulk / len(piece) {
				if _, err := c.Write(piece); err != nil {
					return // The edge has closed the connection.
				}
			}
		}()
		a, err := readAnswer(c.r, "POST")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if a.StatusCode != 413 || a.body != "big" || !a.Close {
			t.Errorf("%s: %d %q, close %v; want 413 and the connection's end", tt.name, a.StatusCode, a.body, a.Close)
		}
	}
}

// Both directions flow at once: a backend may answer while it reads.
func TestStreaming_Bidirectional(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		q, err := c.ReadHead()
		if err != nil {
			return
		}
		body, err := c.Body(q)
		if err != nil {
			return
		}
		_, _ = c.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		line := make([]byte, 6)
		for {
			if _, err := io.ReadFull(body, line); err != nil {
				break
			}
			fmt.Fprintf(c, "6\r\n%s\r\n", line)
		}
		_, _ = c.WriteString("0\r\n\r\n")
	})
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("POST", "/", "a.example", "Transfer-Encoding: chunked"))
	var a *answer
	for i := range 20 {
		text := fmt.Sprintf("msg %02d", i)[:6]
		c.send("6\r\n" + text + "\r\n")
		if a == nil {
			var err error
			if a, err = readAnswerHead(c.r, "POST"); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, 6)
		if _, err := io.ReadFull(a.Body, got); err != nil || string(got) != text {
			t.Fatalf("message %d came back as %q, %v", i, got, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(a.Body); len(rest) > 0 || err != nil {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

// A cut answer is logged with the status and the bytes that were sent, and counted with its cause.
func TestStreaming_CutAnswerIsCounted(t *testing.T) {
	t.Parallel()
	b := backendtest.Scripted(t, backendtest.Head(),
		backendtest.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), backendtest.Close())
	e := newEdge(t, one("a.example", b.URL()))
	c := e.dial()
	c.send(request("GET", "/", "a.example"))
	if a, err := readAnswer(c.r, "GET"); err == nil {
		t.Errorf("answer %q looks complete", a.body)
	}
	e.awaitMetric(`sluice_errors_total{cause="backend_reset"}`, 1)
	if line := e.awaitLog(1)[0]; !strings.Contains(line, `HTTP/1.1" 200 4 `) {
		t.Errorf("log line %q", line)
	}
}
