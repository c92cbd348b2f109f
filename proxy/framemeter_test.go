package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/http2"
)

// However a stream of frames is cut into reads, the same frames are found in it.
func TestFrameScanner_AnyCut(t *testing.T) {
	t.Parallel()
	var wire bytes.Buffer
	fr := http2.NewFramer(&wire, nil)
	for _, err := range []error{
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15}),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("12345"), EndHeaders: true}),
		fr.WriteData(1, true, bytes.Repeat([]byte("x"), 300)),
		fr.WriteRSTStream(1, http2.ErrCodeFlowControl),
		fr.WriteData(3, false, nil),
		fr.WritePing(true, [8]byte{}),
		fr.WriteRSTStream(3, http2.ErrCodeNo),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"4 6 0 0", "1 5 4 0", "0 300 1 0", "3 0 0 3", "0 0 0 0", "6 8 1 0", "3 0 0 0"}
	for step := 1; step < wire.Len(); step++ {
		var got []string
		f := frameScanner{want: frameHeaderSize}
		for rest := wire.Bytes(); len(rest) > 0; {
			n := min(step, len(rest))
			f.scan(rest[:n], func(length int, kind, flags byte, code uint32) {
				got = append(got, fmt.Sprint(kind, " ", length, " ", flags, " ", code))
			})
			rest = rest[n:]
		}
		if step == 1 {
			for i := range want {
				if want[i] != got[i] && want[i][0] != '4' {
					t.Errorf("frame %d: got %q, want %q", i, got[i], want[i])
				}
			}
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("in pieces of %d: %q, want %q", step, got, want)
		}
	}
}

// A write that a client does not take is stalled after the span that MinBodyRate is measured over, longer for more
// bytes.
func TestStream_Stalled(t *testing.T) {
	t.Parallel()
	begin := now()
	tests := []struct {
		pending int64
		rate    int
		waits   time.Duration
		want    bool
	}{
		{1000, 100, rateSpan - time.Second, false},
		{1000, 100, rateSpan + time.Second, true},
		{10000, 100, 99 * time.Second, false},
		{10000, 100, 101 * time.Second, true},
		{10000, 0, 9 * rateSpan, false},
		{10000, 0, 11 * rateSpan, true},
	}
	for _, tt := range tests {
		st := &stream{}
		st.x.cfg = &Config{MinBodyRate: tt.rate}
		if st.stalled(begin) {
			t.Error("stalled without a write")
		}
		st.pending.Store(tt.pending)
		st.writing.Store(int64(begin))
		if got := st.stalled(begin.after(tt.waits)); got != tt.want {
			t.Errorf("%d bytes at %d B/s after %v: %v", tt.pending, tt.rate, tt.waits, got)
		}
	}
}

// deadlineWriter notes the write deadlines that it is given.
type deadlineWriter struct {
	http.ResponseWriter
	given []time.Time
}

func (w *deadlineWriter) FlushError() error { return nil }

func (w *deadlineWriter) SetWriteDeadline(t time.Time) error {
	w.given = append(w.given, t)
	return nil
}

// The sweep resets streams that stall, and puts the library's limit off for those that go on.
func TestMuxConn_Sweep(t *testing.T) {
	t.Parallel()
	s := &Server{conns: newConnections()}
	s.metrics = newProxyMetrics(metrics.NewSet(), s)
	m := &muxConn{srv: s}
	m.empty = sync.NewCond(&m.mu)
	begin := now()
	stuck, slow, fresh := &deadlineWriter{}, &deadlineWriter{}, &deadlineWriter{}
	var list []*webStream
	for _, w := range []*deadlineWriter{stuck, slow, fresh} {
		st := &webStream{w: w}
		st.carrier = st
		st.x.cfg, st.x.start = &Config{MinBodyRate: 100}, begin
		if w == fresh {
			st.x.start = begin.after(40 * time.Second)
		}
		st.deadline = st.x.start.after(streamWriteTime)
		m.enter(&st.stream)
		list = append(list, st)
	}
	list[0].pending.Store(10)
	list[0].writing.Store(int64(begin))
	at := begin.after(41 * time.Second)
	m.sweep(at)
	if len(stuck.given) != 1 || stuck.given[0].After(time.Now()) {
		t.Errorf("stuck: deadlines %v, want one that has passed", stuck.given)
	}
	if len(slow.given) != 1 || !slow.given[0].Equal(at.after(streamWriteTime).wall()) {
		t.Errorf("slow: deadlines %v, want one that is put off", slow.given)
	}
	if len(fresh.given) != 0 {
		t.Errorf("fresh: deadlines %v, want none", fresh.given)
	}
	if n := s.metrics.limited[limitStalledStreams].Get(); n != 1 {
		t.Errorf("counted %d stalled streams", n)
	}
	for _, st := range list {
		m.leave(&st.stream)
	}
	m.end() // It would wait for a stream that was left behind.
}

// Resets by the server for what the client did wrong count like its own, while they are more than half of the streams
// that were opened; those that say nothing against it do not.
func TestFrameMeter_ResetsByTheServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		opened int
		code   http2.ErrCode
		want   bool
	}{
		{"a flood", 2 * maxResets, http2.ErrCodeFlowControl, true},
		{"few of many", 2*maxResets + 2, http2.ErrCodeFlowControl, false},
		{"answered early", 2 * maxResets, http2.ErrCodeNo, false},
		{"our own fault", 2 * maxResets, http2.ErrCodeInternal, false},
	} {
		var m frameMeter
		m.init(&Server{metrics: newProxyMetrics(metrics.NewSet(), &Server{})})
		m.opened.Store(int64(tt.opened))
		var wire bytes.Buffer
		fr := http2.NewFramer(&wire, nil)
		for i := range maxResets + 1 {
			if m.flooded.Load() {
				t.Errorf("%s: a flood after %d resets", tt.name, i)
			}
			if err := fr.WriteRSTStream(uint32(2*i+1), tt.code); err != nil {
				t.Fatal(err)
			}
			m.sent(wire.Bytes())
			wire.Reset()
		}
		if got := m.flooded.Load(); got != tt.want {
			t.Errorf("%s: a flood %v, want %v", tt.name, got, tt.want)
		}
	}
}
