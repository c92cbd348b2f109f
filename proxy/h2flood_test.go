package proxy

import (
	"testing"
	"time"
)

// Resets by the client, and by us for what it did wrong, are a flood while they are more than half of the streams that
// were opened; those that say nothing against it are none.
func TestFloodMeter_Resets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		opened int64
		code   h2Code
		want   bool
	}{
		{"a flood", 2 * maxResets, codeFlowControl, true},
		{"few of many", 2*maxResets + 2, codeFlowControl, false},
		{"answered early", 2 * maxResets, codeNone, false},
		{"our own fault", 2 * maxResets, codeInternal, false},
		{"stalled", 2 * maxResets, codeCancel, false},
	} {
		m := floodMeter{opened: tt.opened}
		got := false
		for i := range maxResets + 1 {
			if got {
				t.Errorf("%s: a flood after %d resets", tt.name, i)
			}
			got = tt.code.blames() && m.reset()
		}
		if got != tt.want {
			t.Errorf("%s: a flood %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Frames that carry no request are counted within a window; those that carry something allow more of them.
func TestFloodMeter_Control(t *testing.T) {
	t.Parallel()
	ping := &h2Frame{kind: framePing, payload: make([]byte, 8)}
	data := &h2Frame{kind: frameData, payload: make([]byte, usePerControl)}
	at := instant(3 * meterWindow)
	var m floodMeter
	for i := range 2 * maxControl {
		if flood, _ := m.received(at.after(time.Duration(i%2)*meterWindow), ping); flood {
			t.Fatalf("a flood after %d frames although their windows end", i)
		}
	}
	m = floodMeter{}
	for range 5 {
		m.received(at, data)
	}
	for i := range maxControl + 5 {
		if flood, _ := m.received(at, ping); flood {
			t.Fatalf("a flood after %d frames", i)
		}
	}
	if flood, kind := m.received(at, ping); !flood || kind != floodControl {
		t.Error("no flood beyond the limit")
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
