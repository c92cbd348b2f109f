package proxy

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

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
