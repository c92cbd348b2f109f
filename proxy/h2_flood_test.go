package proxy_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"sluice/internal/backendtest"
)

// floods are ways to have a server work for nothing. Each returns when the connection has ended, or the flood is over.
var floods = []struct {
	name   string
	reason string // sluice_http2_floods_total; "" where another limit ends it
	run    func(c *frames) error
}{
	// CVE-2023-44487: requests that are reset at once.
	{"rapid reset", "resets", func(c *frames) error {
		for range 20000 {
			stream, err := c.open(true, "GET", "/", "a.example")
			if err == nil {
				err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	// The same among fields for streams that are gone, which are no requests. Malformed ones take no place that others
	// would wait for.
	{"resets beside trailers", "resets", func(c *frames) error {
		for range 20000 {
			gone, err := c.refused()
			for range 2 {
				if err == nil {
					err = c.WriteRawFrame(http2.FrameHeaders, endOfAll, gone, []byte{0x82})
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"trailers", "control_frames", func(c *frames) error {
		gone, err := c.refused()
		if err != nil {
			return err
		}
		return repeat(50000, func() error { return c.WriteRawFrame(http2.FrameHeaders, endOfAll, gone, []byte{0x82}) })
	}},
	// CVE-2025-8671: requests that the server itself resets, because of what the client sends for them next.
	{"made you reset", "resets", func(c *frames) error {
		for range 20000 {
			stream, err := c.open(true, "GET", "/", "a.example")
			if err == nil {
				err = c.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, []byte{0, 0, 0, 0})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	// The same by a window that grows too large.
	{"window overflow", "resets", func(c *frames) error {
		for range 20000 {
			stream, err := c.open(true, "GET", "/", "a.example")
			if err == nil {
				err = c.WriteWindowUpdate(stream, 1<<31-1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	// CVE-2023-45288: a head that never ends.
	{"continuation", "", func(c *frames) error {
		head := c.head("GET", "/", "a.example")
		if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head}); err != nil {
			return err
		}
		for i := range 100000 {
			c.block.Reset()
			more := c.head("GET", "/", "a.example", fmt.Sprintf("x-%d", i), "value")
			if err := c.WriteContinuation(1, false, more); err != nil {
				return err
			}
		}
		return nil
	}},
	// The same without content.
	{"empty continuation", "control_frames", func(c *frames) error {
		if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head("GET", "/", "a.example")}); err != nil {
			return err
		}
		return repeat(50000, func() error { return c.WriteContinuation(1, false, nil) })
	}},
	// CVE-2019-9512.
	{"ping", "control_frames", func(c *frames) error {
		return repeat(50000, func() error { return c.WritePing(false, [8]byte{}) })
	}},
	// CVE-2019-9515.
	{"settings", "control_frames", func(c *frames) error {
		return repeat(50000, func() error { return c.WriteSettings() })
	}},
	// CVE-2019-9514: resets for streams that are none any more.
	{"reset", "resets", func(c *frames) error {
		stream, err := c.open(true, "GET", "/", "a.example")
		if err != nil {
			return err
		}
		return repeat(50000, func() error { return c.WriteRSTStream(stream, http2.ErrCodeCancel) })
	}},
	// CVE-2019-9518: a body of nothing.
	{"empty data", "control_frames", func(c *frames) error {
		stream, err := c.open(false, "POST", "/", "a.example")
		if err != nil {
			return err
		}
		return repeat(50000, func() error { return c.WriteData(stream, false, nil) })
	}},
	{"padded empty data", "control_frames", func(c *frames) error {
		stream, err := c.open(false, "POST", "/", "a.example")
		if err != nil {
			return err
		}
		return repeat(50000, func() error {
			return c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, stream, []byte{0})
		})
	}},
	// The same as ends of a stream that is gone.
	{"ends", "control_frames", func(c *frames) error {
		gone, err := c.refused()
		if err != nil {
			return err
		}
		return repeat(50000, func() error { return c.WriteData(gone, true, nil) })
	}},
	// CVE-2019-9513.
	{"priority", "control_frames", func(c *frames) error {
		return repeat(50000, func() error { return c.WritePriority(99, http2.PriorityParam{StreamDep: 3, Weight: 7}) })
	}},
	{"window update", "control_frames", func(c *frames) error {
		return repeat(50000, func() error {
			var one [4]byte
			binary.BigEndian.PutUint32(one[:], 1)
			return c.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, one[:])
		})
	}},
	{"unknown frames", "control_frames", func(c *frames) error {
		return repeat(50000, func() error { return c.WriteRawFrame(0xbb, 0, 0, []byte("?")) })
	}},
}

// endOfAll are the flags of HEADERS that end their block and their stream.
const endOfAll = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream

// refused opens a stream that is reset for its head. Frames for it are ignored from then on.
func (c *frames) refused() (stream uint32, err error) {
	return c.open(true, "GET", "/", "a.example", "connection", "x")
}

func repeat(n int, f func() error) error {
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// A flood costs its own connection: what it makes the edge keep is bounded, others do not notice.
func TestH2_Floods(t *testing.T) {
	b := backendtest.Echo(t, "b")
	for _, tt := range floods {
		for _, reads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, reads %v", tt.name, reads), func(t *testing.T) {
				e, cert := newMultiEdge(t, one("a.example", b.URL()))
				other := versions[1].visit(t, e, cert)
				other.do("GET", "/", "a.example")
				c := e.dialH2(cert)
				c.settle()
				_ = c.SetDeadline(time.Now().Add(3 * patience))
				ended := make(chan http2.ErrCode, 1)
				if reads {
					go func() {
						code, err := c.goneAway()
						if err != nil {
							code = 0xff // It ended without a farewell, or its farewell was lost to the flood behind it.
						}
						ended <- code
						_, _ = discard(c.Conn)
					}()
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				goroutines := runtime.NumGoroutine()
				flooding := make(chan error, 1)
				go func() { flooding <- tt.run(c) }()
				most := 0
				err, over := error(nil), false
				for !over {
					select {
					case err = <-flooding:
						over = true
					case <-time.After(10 * time.Millisecond):
						most = max(most, runtime.NumGoroutine()-goroutines)
						if a := other.do("GET", "/", "a.example"); a.StatusCode != 200 {
							t.Fatalf("the other connection got %d", a.StatusCode)
						}
					}
				}
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
					t.Errorf("the flood left %d MB", grown>>20)
				}
				// Requests that run have a goroutine, one for their connection's reading, and those of the backend.
				if limit := 8*e.config.MaxStreams + 200; most > limit {
					t.Errorf("%d goroutines more, want at most %d", most, limit)
				}
				if err == nil && reads {
					select {
					case <-ended:
					case <-time.After(patience):
						t.Errorf("the connection outlived its flood")
					}
				}
				if reads && tt.reason != "" {
					e.awaitMetric(fmt.Sprintf("sluice_http2_floods_total{reason=%q}", tt.reason), 1)
				}
				_ = c.Close()
				if a := other.do("GET", "/", "a.example"); a.StatusCode != 200 {
					t.Errorf("the other connection got %d", a.StatusCode)
				}
				e.awaitMetric("sluice_http2_connections", 1)
				e.awaitMetric("sluice_streams", 0)
			})
		}
	}
}
