package proxy

import "time"

// Limits of what a client may send that carries no request along, in each meterWindow. They are far above what an
// honest client needs, and far below what costs more than the requests that it could send instead.
const (
	meterWindow   = 10 * time.Second
	maxControl    = 10000 // Limit: frames other than HEADERS of a request and DATA with something in it
	maxResets     = 500   // Limit: streams that ended by a reset, while they are more than half of those opened
	usePerControl = 1024  // bytes of heads and bodies that allow one more control frame
)

// floodMeter counts the frames of a connection to find floods: many frames that cost work and carry no request. The
// connection's mu guards it.
type floodMeter struct {
	window  int64 // number of the present meterWindow
	control int64
	useful  int64 // bytes of heads and bodies, both ways
	opened  int64
	resets  int64
}

// received counts a frame of the client. It reports whether that makes a flood, and of what kind.
func (m *floodMeter) received(t instant, f *h2Frame) (flood bool, kind int) {
	if w := int64(t) / int64(meterWindow); w != m.window {
		*m = floodMeter{window: w}
	}
	n := int64(len(f.payload))
	if data, ok := f.unpadded(); ok && f.kind == frameData {
		n = int64(len(data)) // Padding is nothing.
	}
	switch {
	case f.kind == frameHeaders && n > 0:
		m.useful += n
	case f.kind == frameData && (n > 0 || f.has(flagEndStream)), f.kind == frameContinuation && n > 0:
		m.useful += n
	default:
		m.control++
	}
	return m.control-m.useful/usePerControl > maxControl, floodControl
}

// reset counts a stream that ended by a reset, by the client or for what it did wrong: else it could have work begun
// and thrown away at will. It reports whether that makes a flood.
func (m *floodMeter) reset() bool {
	m.resets++
	return m.resets > maxResets && m.resets > m.opened/2
}

// blames reports whether a reset by us with this code counts against the client.
func (c h2Code) blames() bool { return c != codeNone && c != codeInternal && c != codeCancel }
