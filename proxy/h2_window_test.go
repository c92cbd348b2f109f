package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"sluice/internal/backendtest"
)

// A stream whose own window is open goes on as soon as the connection's opens, also behind many whose windows a smaller
// initial window has made negative.
func TestH2_ShrunkWindows(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", 10000)
	b := backendtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, content)
	}))
	e, cert := newMultiEdge(t, one("a.example", b.URL()))
	const shrunk, window = 40, 500
	c := e.dialH2(cert, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	c.settle()
	for range shrunk {
		stream, err := c.open(true, "GET", "/", "a.example")
		c.must(err)
		c.body(stream, window)
	}
	open, err := c.open(true, "GET", "/", "a.example")
	c.must(err)
	c.must(c.WriteWindowUpdate(open, uint32(len(content))))
	got := c.body(open, 65535-shrunk*window) // Now the connection's window is used up.
	c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window - 100}))
	_, err = c.await(func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() })
	c.must(err)
	c.must(c.WriteWindowUpdate(0, 1<<20))
	got += c.body(open, len(content)-len(got))
	if got != content {
		t.Errorf("%d bytes, want %d", len(got), len(content))
	}
}
