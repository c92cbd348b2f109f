package proxy

import (
	"io"
	"strings"
	"testing"
	"time"
)

// A client's upload is measured by what it sends while it is waited for: framing counts, and a slow backend does not.
func TestRateWindow(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, tt := range []struct {
		name  string
		waits []time.Duration
		bytes int64 // with each wait
		want  bool
	}{
		{"silent for less than a window", []time.Duration{29 * second}, 1, false},
		{"too slow over a window", []time.Duration{10 * second, 10 * second, 10 * second}, 900, true},
		{"just fast enough", []time.Duration{10 * second, 10 * second, 10 * second}, 1000, false},
		{"never waited for", []time.Duration{0, 0, 0, 0}, 1, false},
		{"fast enough for its time", []time.Duration{29 * second, 29 * second, 29 * second}, 3000, false},
	} {
		var w rateWindow
		slow := false
		for _, wait := range tt.waits {
			slow = w.slow(wait, tt.bytes, 100)
		}
		if slow != tt.want {
			t.Errorf("%s: slow %v, want %v", tt.name, slow, tt.want)
		}
	}
}

// What came fast at first is no reason to wait for a second window.
func TestRateWindow_BurstThenTrickle(t *testing.T) {
	t.Parallel()
	var w rateWindow
	if w.slow(0, 1<<20, 100) || w.slow(29*time.Second, 100, 100) {
		t.Error("slow within a window of the burst")
	}
	if !w.slow(time.Second, 100, 100) {
		t.Error("not slow although a window has passed since the burst")
	}
	if w = (rateWindow{}); w.slow(time.Hour, 0, 0) {
		t.Error("slow without a limit")
	}
}

// Many small chunks that come at once are as much progress as one large one.
func TestClientConn_UploadRateCountsFraming(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	cfg := DefaultConfig()
	c := clientConns.Get().(*clientConn)
	c.link, c.rw, c.x.cfg, c.upWindow = l, l, &cfg, rateWindow{} // The pool may have it from another test.
	c.buf.acquire(bodyBuffer)
	c.body.start(&c.source, framingChunked, 0)
	text := strings.Repeat("1\r\na\r\n", 10) + "0\r\n\r\n"
	if _, err := io.WriteString(far, text); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := c.readBody(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if c.upWindow.bytes != int64(len(text)) {
		t.Errorf("%d bytes count as progress, want %d", c.upWindow.bytes, len(text))
	}
	c.release()
}

// A connection that rested while the configuration changed is held to the new one's rate: whoever takes it up has no
// request before the change to tell the two apart by.
func TestClientConn_TakesUpTheRateInForce(t *testing.T) {
	t.Parallel()
	l, _ := linkPair(t)
	s := &Server{}
	a := &acceptedConn{Conn: l, link: l, rw: l, bind: &boundListener{srv: s}}
	for _, rate := range []int{1000, 0, 500} {
		cfg := DefaultConfig()
		cfg.MinBodyRate = rate
		s.cfg.Store(&cfg)
		c := acquireClientConn(s, a)
		want := time.Duration(0)
		if rate > 0 {
			want = rateSpan
		}
		if l.writeWindow != want || want > 0 && l.writeShare != int64(rate)*int64(rateSpan/time.Second) {
			t.Errorf("MinBodyRate %d: the client must take %d bytes in %v", rate, l.writeShare, l.writeWindow)
		}
		c.release()
	}
}

// answering is a carrier whose answer begins while its body is read.
type answering struct {
	carrier
	st *stream
}

func (c *answering) read([]byte) (int, error) {
	c.st.x.answered.Store(true)
	return 1, nil
}

// A byte that comes late, but after the answer has begun, is no slow upload.
func TestStream_RateAfterAnswer(t *testing.T) {
	t.Parallel()
	st := &stream{upWindow: rateWindow{waited: rateSpan}}
	cfg := DefaultConfig()
	st.x.cfg, st.carrier = &cfg, &answering{st: st}
	if n, err := st.readSome(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
