package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"sluice/internal/backendtest"
)

// body reads a stream's DATA up to its end, or to n bytes, letting the client's windows open as it reads.
func (c *frames) body(stream uint32, n int) string {
	c.t.Helper()
	var got bytes.Buffer
	_, err := c.await(func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		if !ok || d.StreamID != stream {
			return false
		}
		got.Write(d.Data())
		return d.StreamEnded() || n > 0 && got.Len() >= n
	})
	c.must(err)
	return got.String()
}

// resetOf waits for a stream's reset.
func (c *frames) resetOf(stream uint32) http2.ErrCode {
	c.t.Helper()
	f, err := c.await(func(f http2.Frame) bool { r, ok := f.(*http2.RSTStreamFrame); return ok && r.StreamID == stream })
	c.must(err)
	return f.(*http2.RSTStreamFrame).ErrCode
}

// Fields of streams that are refused or ignored still count for the compression of later ones.
func TestH2_RefusedStreamsKeepCompression(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, _ = io.WriteString(w, r.Header.Get("X-Sync")+" "+r.URL.Path)
	}))
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.MaxStreams = 1 })
	c := e.dialH2(cert)
	c.settle()
	first, err := c.open(true, "GET", "/first", "a.example", "x-sync", "zero")
	c.must(err)
	refused, err := c.open(true, "GET", "/refused", "a.example", "x-sync", "new in a refused stream")
	c.must(err)
	malformed, err := c.open(true, "GET", "/malformed", "a.example", "connection", "x", "x-sync", "new in a malformed one")
	c.must(err)
	if code := c.resetOf(refused); code != http2.ErrCodeRefusedStream {
		t.Errorf("refused with %v", code)
	}
	if code := c.resetOf(malformed); code != http2.ErrCodeProtocol {
		t.Errorf("malformed: %v", code)
	}
	// Fields for a stream that was reset: trailers that crossed the reset.
	c.block.Reset()
	c.must(c.encoder.WriteField(hpackField("x-sync", "new in trailers for nobody")))
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: refused, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true}))
	close(release)
	if got := c.body(first, 0); got != "zero /first" {
		t.Errorf("first: %q", got)
	}
	for i, value := range []string{"new in a refused stream", "new in a malformed one", "new in trailers for nobody", "zero"} {
		path := fmt.Sprintf("/%d", i)
		stream, err := c.open(true, "GET", path, "a.example", "x-sync", value)
		c.must(err)
		if got := c.body(stream, 0); got != value+" "+path {
			t.Errorf("got %q, want %q", got, value+" "+path)
		}
	}
}

// An answer that comes before the request's end resets the rest of it without blame. What is on its way still counts
// for the connection, which goes on.
func TestH2_EarlyAnswer(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		if q, err := c.ReadHead(); err == nil && q.Method == "POST" {
			_, _ = c.WriteString("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			c.Sleep(time.Second)
		} else {
			_, _ = c.WriteString(ok)
		}
	})
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	for range 3 {
		stream, err := c.open(false, "POST", "/", "a.example")
		c.must(err)
		if got := c.status(stream); got != "403" {
			t.Errorf("status %s", got)
		}
		if code := c.resetOf(stream); code != http2.ErrCodeNo {
			t.Errorf("reset with %v", code)
		}
		credit := uint32(0)
		for range 40 { // More than half of the connection's window.
			c.must(c.WriteData(stream, false, make([]byte, 16<<10)))
		}
		_, err = c.await(func(f http2.Frame) bool {
			if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 0 {
				credit += w.Increment
			}
			return credit >= 512<<10
		})
		c.must(err)
	}
	stream, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	if got := c.status(stream); got != "200" {
		t.Errorf("status %s", got)
	}
}

// Bytes of an answer go out as far as the client's windows allow, to the byte, and its head and end without them.
func TestH2_ClientWindows(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", 10000)
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.settle()
	stream, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	if got := c.status(stream); got != "200" {
		t.Errorf("status %s", got)
	}
	var got string
	for _, n := range []int{1, 7, 20000} {
		c.must(c.WriteWindowUpdate(stream, uint32(n)))
		got += c.body(stream, n)
	}
	if got != content[:20008] {
		t.Fatalf("%d bytes came, want those that fit", len(got))
	}
	// A change of the initial window reaches streams that wait, also downwards: 10 more are owed then.
	c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	f, err := c.await(func(http2.Frame) bool { return true })
	if s, ok := f.(*http2.SettingsFrame); err != nil || !ok || !s.IsAck() {
		t.Errorf("%v, %v before the acknowledgement", f, err)
	}
	got += c.body(stream, 100)
	c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 90}))
	c.must(c.WriteWindowUpdate(stream, 15))
	got += c.body(stream, 5)
	if got != content[:20113] {
		t.Fatalf("%d bytes came, want 20113", len(got))
	}
	// The connection's window is the limit now: 65535 less what came.
	c.must(c.WriteWindowUpdate(stream, 1<<20))
	got += c.body(stream, 65535-len(got))
	if len(got) != 65535 {
		t.Errorf("%d bytes came within the connection's window", len(got))
	}
	other, err := c.open(true, "HEAD", "/", "a.example")
	c.must(err)
	if got := c.status(other); got != "200" {
		t.Errorf("a head without a body: %s", got)
	}
	c.must(c.WriteWindowUpdate(0, 1<<20))
	got += c.body(stream, 0)
	if got != content {
		t.Errorf("%d bytes came, or others than were sent", len(got))
	}
}

// Many large answers share one connection whose windows are small, and open by odd amounts, while some are given up:
// each stream gets its own bytes, all of them.
func TestH2_ManyBodies(t *testing.T) {
	t.Parallel()
	const streams, size = 80, 100000
	content := func(path string) string { return strings.Repeat(path+";", size/(len(path)+1)) }
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, content(r.URL.Path)) }))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 9000})
	c.settle()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	got := map[uint32]*bytes.Buffer{}
	for range streams {
		stream, err := c.open(true, "GET", fmt.Sprintf("/s%d", c.next), "a.example")
		c.must(err)
		got[stream] = new(bytes.Buffer)
	}
	whole, owed := 0, uint32(0)
	_, err := c.await(func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		if !ok {
			return false
		}
		buf, n := got[d.StreamID], uint32(len(d.Data()))
		if owed += n; owed > 10000 {
			c.must(c.WriteWindowUpdate(0, owed))
			owed = 0
		}
		switch {
		case buf == nil: // It was given up.
		case d.StreamEnded():
			buf.Write(d.Data())
			if path := fmt.Sprintf("/s%d", d.StreamID); buf.String() != content(path) {
				t.Errorf("stream %d got %d bytes, or those of another", d.StreamID, buf.Len())
			}
			delete(got, d.StreamID)
			whole++
		case random.IntN(60) == 0:
			c.must(c.WriteRSTStream(d.StreamID, http2.ErrCodeCancel))
			delete(got, d.StreamID)
		default:
			buf.Write(d.Data())
			if buf.Len()/5000 != (buf.Len()-int(n))/5000 { // One for each frame, however small, would be a flood.
				c.must(c.WriteWindowUpdate(d.StreamID, 5000+uint32(random.IntN(3000))))
			}
		}
		return len(got) == 0
	})
	c.must(err)
	t.Logf("%d whole answers", whole)
	if whole == 0 || whole == streams {
		t.Error("too little has happened to prove anything")
	}
	e.awaitMetric("sluice_streams", 0)
}

// A stream whose client takes nothing of its answer is reset. Its connection goes on, and the log tells of it.
func TestH2_StalledStream(t *testing.T) {
	t.Parallel()
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100000)) }))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.settle()
	stalled, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	if got := c.status(stalled); got != "200" {
		t.Errorf("status %s", got)
	}
	eventually(t, "a stream to stall", func() bool {
		e.server.SweepStreams(20 * time.Minute) // 100 B/s is what it must take.
		return e.metric(`sluice_limited_total{limit="stalled_streams"}`) == 1
	})
	if code := c.resetOf(stalled); code != http2.ErrCodeCancel {
		t.Errorf("reset with %v", code)
	}
	if line := e.awaitLog(1)[0]; !strings.Contains(line, " 499 ") {
		t.Errorf("log line %q", line)
	}
	next, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	c.must(c.WriteWindowUpdate(next, 1<<20))
	c.must(c.WriteWindowUpdate(0, 1<<20))
	if got := c.body(next, 0); len(got) != 100000 {
		t.Errorf("%d bytes on the same connection", len(got))
	}
}

// A client that takes an answer slowly, but faster than it must, is served to the end: what it has taken does not shorten
// the time for the rest.
func TestH2_SlowClient(t *testing.T) {
	t.Parallel()
	const size, left = 30000, 100
	b := backendtest.Canned(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("x", size))
	e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) { s.MinBodyRate = 10 })
	c := e.dialH2(cert, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.settle()
	stream, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	if got := c.status(stream); got != "200" {
		t.Errorf("status %s", got)
	}
	c.must(c.WriteWindowUpdate(stream, size-left))
	c.body(stream, size-left)
	e.server.SweepStreams(45 * time.Second) // The last piece was larger than what is left of it, and has more time.
	c.must(c.WriteWindowUpdate(stream, left))
	c.body(stream, left)
	if n := e.metric(`sluice_limited_total{limit="stalled_streams"}`); n != 0 {
		t.Errorf("%v stalled streams", n)
	}
}

// Uploads that nobody reads stop at the stream's window; more than that is the client's fault, and only its stream's.
func TestH2_ServerWindows(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	w := backendtest.Raw(t, func(c *backendtest.Conn) {
		_, _ = c.ReadHead()
		<-over // It takes nothing of the body.
	})
	t.Cleanup(func() { close(over) })
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, routeList{"a.example": {"w", w.URL()}, "b.example": {"b", b.URL()}})
	c := e.dialH2(cert)
	c.settle()
	stream, err := c.open(false, "POST", "/", "a.example")
	c.must(err)
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	for range 40 { // 640 KiB, of which the backend's socket may take some, and 512 KiB fit the window.
		c.must(c.WriteData(stream, false, make([]byte, 16<<10)))
	}
	for sent := 0; ; sent += 16 << 10 {
		if sent > 64<<20 {
			t.Fatal("a stream without an end is not stopped")
		}
		f, err := c.awaitOrWrite(stream)
		c.must(err)
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			if r.StreamID != stream || r.ErrCode != http2.ErrCodeFlowControl {
				t.Errorf("stream %d is reset with %v", r.StreamID, r.ErrCode)
			}
			break
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != http2.ErrCodeFlowControl {
				t.Errorf("GOAWAY %v", g.ErrCode)
			}
			return // The connection's window was exceeded first.
		}
	}
	next, err := c.open(true, "GET", "/", "b.example")
	c.must(err)
	if got := c.status(next); got != "200" {
		t.Errorf("status %s", got)
	}
}

// awaitOrWrite writes more of a body and looks for what the server says about it.
func (c *frames) awaitOrWrite(stream uint32) (http2.Frame, error) {
	if err := c.WriteData(stream, false, make([]byte, 16<<10)); err != nil {
		return nil, err
	}
	if err := c.WritePing(false, [8]byte{}); err != nil {
		return nil, err
	}
	return c.await(func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return true
		case *http2.PingFrame:
			return f.IsAck()
		}
		return false
	})
}

// Bodies of another length than announced never look complete to a backend.
func TestH2_Lengths(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	for _, size := range []int{100, 100000} {
		short, err := c.open(false, "POST", "/", "a.example", "content-length", fmt.Sprint(size))
		c.must(err)
		c.must(c.WriteData(short, true, []byte("short")))
		if got := c.status(short); got != "400" {
			t.Errorf("short body: %s", got)
		}
		long, err := c.open(false, "POST", "/", "a.example", "content-length", fmt.Sprint(size))
		c.must(err)
		for n := 0; n <= size; n += 10000 {
			c.must(c.WriteData(long, false, make([]byte, 10000)))
		}
		if code := c.resetOf(long); code != http2.ErrCodeProtocol {
			t.Errorf("long body: %v", code)
		}
	}
	for _, line := range e.awaitLog(4) {
		if strings.Contains(line, " 200 ") {
			t.Errorf("log line %q", line)
		}
	}
	stream, err := c.open(false, "POST", "/", "a.example", "content-length", "5")
	c.must(err)
	c.must(c.WriteDataPadded(stream, true, []byte("hello"), make([]byte, 200)))
	if got := c.status(stream); got != "200" {
		t.Errorf("padded body: %s", got)
	}
	e, cert = newMultiEdge(t, one("a.example", backendtest.Silent(t).URL()))
	c = e.dialH2(cert)
	c.settle()
	for i, body := range []string{"", "hello"} { // What is too much comes when the request is under way.
		stream, err = c.open(false, "POST", "/", "a.example", "content-length", fmt.Sprint(len(body)))
		c.must(err)
		c.must(c.WriteData(stream, false, []byte(body)))
		e.awaitInFlight(1)
		c.must(c.WriteData(stream, true, []byte("x")))
		if code := c.resetOf(stream); code != http2.ErrCodeProtocol {
			t.Errorf("a frame behind a body of %d bytes: %v", len(body), code)
		}
		e.awaitLog(i + 1)
	}
}

// A head that is too large gets an answer of ours, is logged and counted. One without measure ends the connection.
func TestH2_LargeHeads(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	large := func(size int) uint32 {
		stream := c.next
		c.next += 2
		block := c.head("GET", "/", "a.example", "x-large", strings.Repeat("\x22", size)) // Huffman does not shorten it.
		c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:10000], EndStream: true}))
		for block = block[10000:]; len(block) > 10000; block = block[10000:] {
			c.must(c.WriteContinuation(stream, false, block[:10000]))
		}
		c.must(c.WriteContinuation(stream, true, block))
		return stream
	}
	for i, size := range []int{17000, 40000, 60000} {
		if got := c.status(large(size)); got != "431" {
			t.Errorf("%d bytes: %s", size, got)
		}
		if line := e.awaitLog(i + 1)[i]; !strings.Contains(line, " 431 ") {
			t.Errorf("log line %q", line)
		}
	}
	e.awaitMetric(`sluice_errors_total{cause="head_too_large"}`, 3)
	large(100000)
	if code, err := c.goneAway(); err != nil || code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("GOAWAY %v, %v", code, err)
	}
}

// 100 (Continue) comes from the backend, or it answers at once; the field reaches it.
func TestH2_Expect(t *testing.T) {
	t.Parallel()
	b := backendtest.Raw(t, func(c *backendtest.Conn) {
		for {
			q, err := c.ReadHead()
			switch {
			case err != nil:
				return
			case q.Value("Expect") != "100-continue" || strings.HasSuffix(q.Target, "no"):
				_, _ = c.WriteString("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			_, _ = c.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
			body, err := c.Body(q)
			if err != nil {
				return
			}
			p, _ := io.ReadAll(body)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(p), p)
		}
	})
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	stream, err := c.open(false, "POST", "/yes", "a.example", "expect", "100-continue")
	c.must(err)
	if got := c.status(stream); got != "100" {
		t.Fatalf("status %s", got)
	}
	c.must(c.WriteData(stream, true, []byte("hello")))
	if got := c.status(stream) + c.body(stream, 0); got != "200hello" {
		t.Errorf("got %s", got)
	}
	stream, err = c.open(false, "POST", "/no", "a.example", "expect", "100-continue")
	c.must(err)
	if got := c.status(stream); got != "417" {
		t.Errorf("status %s", got)
	}
}

// Trailers of a request reach the backend whether they were announced or not.
func TestH2_RequestTrailers(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	stream, err := c.open(false, "POST", "/", "a.example")
	c.must(err)
	c.must(c.WriteData(stream, false, []byte("hello")))
	c.block.Reset()
	c.must(c.encoder.WriteField(hpackField("x-sum", "42")))
	c.must(c.encoder.WriteField(hpackField("content-length", "7")))
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true}))
	if got := c.body(stream, 0); !strings.Contains(got, "X-Sum") || !strings.Contains(got, "42") || !strings.Contains(got, `"body_bytes":5`) {
		t.Errorf("backend got %s", got)
	}
	for name, end := range map[string]bool{"no end": false, "pseudo": true} {
		stream, err = c.open(false, "POST", "/", "a.example")
		c.must(err)
		field := hpackField("x-sum", "42")
		if end {
			field = hpackField(":path", "/other")
		}
		c.block.Reset()
		c.must(c.encoder.WriteField(field))
		c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true}))
		if code := c.resetOf(stream); code != http2.ErrCodeProtocol {
			t.Errorf("%s: %v", name, code)
		}
	}
}

// An idle connection is parked and taken up again with all that it remembers; it gets its farewell in its sleep, be it
// that it was idle for too long or that the edge goes.
func TestH2_Parked(t *testing.T) {
	t.Parallel()
	b := backendtest.Echo(t, "b")
	for _, reason := range []string{"idle", "drain", "cut", "client"} {
		e, cert := newMultiEdge(t, one("a.example", b.URL()), func(s *setup) {
			s.park = 50 * time.Millisecond
			if reason == "idle" {
				s.IdleTimeout = 2 * time.Second
			}
		})
		c := e.dialH2(cert)
		c.settle()
		for i := range 3 {
			stream, err := c.open(true, "GET", "/", "a.example", "x-remembered", "value")
			c.must(err)
			if got := c.body(stream, 0); !strings.Contains(got, "X-Remembered") {
				t.Fatalf("%s: answer %d: %s", reason, i, got)
			}
			e.awaitMetric("sluice_connections_parked", 1)
		}
		switch reason {
		case "idle":
			if code, err := c.goneAway(); err != nil || code != http2.ErrCodeNo {
				t.Errorf("idle: GOAWAY %v, %v", code, err)
			}
		case "drain":
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := e.shutdown(ctx); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			if code, err := c.goneAway(); err != nil || code != http2.ErrCodeNo {
				t.Errorf("drain: GOAWAY %v, %v", code, err)
			}
		case "cut":
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = e.shutdown(ctx)
		case "client":
			_ = c.Close()
		}
		e.awaitMetric("sluice_connections", 0)
		e.awaitMetric("sluice_http2_connections", 0)
	}
}

// A client is told twice to leave: that it shall, and, when it must have heard, which request was its last one.
func TestH2_GoAwayTwice(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := backendtest.HTTP(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	c := e.dialH2(cert)
	c.settle()
	first, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	e.awaitInFlight(1)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- e.shutdown(ctx)
	}()
	goAway := func() uint32 {
		f, err := c.await(func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok })
		c.must(err)
		return f.(*http2.GoAwayFrame).LastStreamID
	}
	if last := goAway(); last != 1<<31-1 {
		t.Errorf("first GOAWAY names %d", last)
	}
	late, err := c.open(true, "GET", "/", "a.example") // It was on its way.
	c.must(err)
	c.must(c.WritePing(true, [8]byte{}))
	if last := goAway(); last != late {
		t.Errorf("second GOAWAY names %d, want %d", last, late)
	}
	_, err = c.open(true, "GET", "/", "a.example") // This one is ignored.
	c.must(err)
	close(release)
	got := map[uint32]bool{}
	_, err = c.await(func(f http2.Frame) bool {
		if m, ok := f.(*http2.MetaHeadersFrame); ok {
			got[m.StreamID] = true
		}
		return len(got) == 2
	})
	if err != nil || !got[first] || !got[late] {
		t.Errorf("answers to %v, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// Many streams of few connections, of which clients reset some, share backends that misbehave: every answer belongs to
// its own request, and no cut body looks complete.
func TestH2_Mixing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var m mixed
	routes := routeList{"a.example": {"all"}}
	for i := range mixBackends {
		routes["a.example"] = append(routes["a.example"], mixer(t, seed+uint64(i), &m.wrote).URL())
	}
	e, cert := newMultiEdge(t, routes)
	var wg sync.WaitGroup
	end := time.Now().Add(*mixTime * 3 / 5)
	for i := range 6 {
		c := versions[1].visit(t, e, cert)
		for k := range 100 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(i*1000+k)))
				for n := 0; time.Now().Before(end); n++ {
					m.request(c, fmt.Sprintf("v%d-%d-%d", i, k, n), random)
				}
			})
		}
	}
	for time.Now().Before(end) {
		e.server.ForgetSurplus()
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	e.awaitMetric("sluice_streams", 0)
	e.awaitInFlight(0)
	if n := e.metric("sluice_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
	for _, c := range m.list {
		t.Error(c)
	}
	t.Logf("%d whole answers, %d cut, %d error pages, %d crossed", m.whole.Load(), m.cut.Load(), m.failed.Load(), m.crossed.Load())
	if m.whole.Load() < 200 || m.cut.Load() == 0 || m.failed.Load() == 0 {
		t.Error("too little has happened to prove anything")
	}
}

// request sends one request, and leaves some before they are answered.
func (m *mixed) request(c *visitor, id string, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	method := []string{"GET", "GET", "POST", "PUT", "HEAD"}[random.IntN(5)]
	var body io.Reader
	if method == "POST" || method == "PUT" {
		body = strings.NewReader(strings.Repeat("x", random.IntN(1+random.IntN(40000))))
		if random.IntN(2) == 0 {
			body = io.MultiReader(body) // Its length is not known.
		}
	}
	q := c.request(method, "/"+id, "a.example", body, "X-Id: "+id).WithContext(ctx)
	if random.IntN(20) == 0 {
		time.AfterFunc(time.Duration(random.IntN(5000))*time.Microsecond, cancel)
	}
	m.sent.Store(id, time.Now())
	resp, err := c.http.Do(q)
	if err != nil {
		m.cut.Add(1)
		return
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	a := &answer{resp, string(content)}
	switch got := resp.Header.Get("X-Id"); {
	case err != nil:
		m.cut.Add(1)
	case a.cause() != "":
		if got != "" {
			m.complain("%q: an error page with fields of an answer", id)
		}
		m.failed.Add(1)
	case got != id:
		if !m.crossing(got, id, method) {
			m.complain("answer of %q to %s %q", got, method, id)
		}
		m.crossed.Add(1)
	default:
		m.whole.Add(1)
		m.checkBody(a, method, id)
	}
}
