package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/internal/pages"
)

// memoryWire is a wire that holds all that the client will send, and keeps what it gets.
type memoryWire struct {
	memoryConn
	mu sync.Mutex
}

func (w *memoryWire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

func (w *memoryWire) CloseWrite() error { return nil }

// newFrameServer returns a server for connections of newFrameConn.
func newFrameServer(tb testing.TB) *Server {
	tb.Helper()
	errorPages, err := pages.New(pages.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(DefaultConfig(), Deps{
		Routes: startRoutes(tb, map[string][]string{"frontend:h": {"id", "http://127.0.0.1:1"}}),
		Log:    slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Pages: errorPages,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// newFrameConn returns a connection whose client sends its preface and frames, in pieces of some bytes.
func newFrameConn(s *Server, frames []byte, piece int) (*h2Conn, *memoryWire) {
	w := &memoryWire{memoryConn: memoryConn{in: append([]byte(clientPreface), frames...), piece: piece}}
	lc := &memoryConn{}
	a := &acceptedConn{
		Conn: lc, link: newLink(lc), bind: &boundListener{srv: s}, addr: netip.MustParseAddr("198.51.100.7"),
	}
	return newH2Conn(s, a, w, "h"), w
}

// FuzzH2Frames: whatever frames a client sends, the connection ends, with it all its requests, nothing of it is left, and
// what the client got are frames that another implementation reads.
func FuzzH2Frames(f *testing.F) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := []string{":method", "POST", ":scheme", "https", ":authority", "h", ":path", "/", "x-a", "b"}
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	for _, seed := range []func(fr *http2.Framer) error{
		func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("hello")) },
		func(fr *http2.Framer) error { return fr.WriteDataPadded(1, false, []byte("hello"), make([]byte, 9)) },
		func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		func(fr *http2.Framer) error { return fr.WriteWindowUpdate(1, 1<<31-1) },
		func(fr *http2.Framer) error { return fr.WritePing(false, [8]byte{1}) },
		func(fr *http2.Framer) error { return fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye")) },
		func(fr *http2.Framer) error { return fr.WritePriority(1, http2.PriorityParam{StreamDep: 1}) },
		func(fr *http2.Framer) error {
			return fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		},
		func(fr *http2.Framer) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes()[:3]})
		},
		func(fr *http2.Framer) error { return fr.WriteContinuation(3, true, block.Bytes()[3:]) },
	} {
		var wire bytes.Buffer
		fr := http2.NewFramer(&wire, nil)
		fr.AllowIllegalWrites = true
		_ = fr.WriteSettings()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		if err := seed(fr); err != nil {
			f.Fatal(err)
		}
		f.Add(wire.Bytes(), uint16(60000))
		f.Add(wire.Bytes(), uint16(1))
	}
	s := newFrameServer(f)
	f.Fuzz(func(t *testing.T, raw []byte, piece uint16) {
		c, w := newFrameConn(s, raw, int(piece))
		c.greet()
		c.serve()
		if n := s.metrics.streams.Load(); n != 0 || len(c.byID)+c.open+c.running+len(c.queue)+len(c.waiting) != 0 {
			t.Fatalf("%d streams are left, %d known, %d open, %d running, %d queued", n, len(c.byID), c.open, c.running, len(c.queue))
		}
		if code := checkFrames(t, w.out.Bytes()); code == http2.ErrCodeNo && c.recvWindow+c.unacked != h2ConnWindow {
			t.Fatalf("window: %d and %d not given back, of %d", c.recvWindow, c.unacked, h2ConnWindow)
		}
		if s.metrics.panics.Get() != 0 {
			t.Fatal("a panic")
		}
	})
}

// checkFrames reads what a client got, and returns the code that its connection ended with.
func checkFrames(t *testing.T, p []byte) (code http2.ErrCode) {
	t.Helper()
	fr := http2.NewFramer(io.Discard, bytes.NewReader(p))
	fr.ReadMetaHeaders = hpack.NewDecoder(maxFieldTable, nil)
	for {
		f, err := fr.ReadFrame()
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = g.ErrCode
		}
		if err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("the client got %x: %v", p, err)
			}
			return code
		}
	}
}
