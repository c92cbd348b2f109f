package proxy

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Types and flags of frames that the meter tells apart (RFC 9113 §6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameRST          = 0x3
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4

	frameHeaderSize = 9
	clientPreface   = 24 // bytes before the first frame
)

// Limits of what a client may send that carries no request along, in each meterWindow. They are far above what an
// honest client needs, and far below what costs more than the requests that it could send instead.
const (
	meterWindow   = 10 * time.Second
	maxControl    = 10000 // Limit: frames other than HEADERS and DATA with something in them
	maxResets     = 500   // Limit: streams that ended by a reset, while they are more than half of those opened
	usePerControl = 1024  // bytes of heads and bodies that allow one more control frame
)

// Codes of a reset that say nothing against the client (RFC 9113 §7).
const (
	codeNone     = 0x0
	codeInternal = 0x2
)

// frameMeter watches the frames of a connection for floods: many frames that cost work and carry no request. The
// library bounds what it queues; this bounds the work.
type frameMeter struct {
	srv     *Server
	flooded atomic.Bool

	in  frameScanner // of the reading goroutine
	out frameScanner // of the writing goroutine

	window  atomic.Int64 // number of the present meterWindow
	control atomic.Int64
	useful  atomic.Int64 // bytes of heads and bodies, both ways
	opened  atomic.Int64
	resets  atomic.Int64

	headFrom atomic.Int64 // instant when a head began that has not ended yet; 0 = none
	inHead   bool         // of the reading goroutine: CONTINUATION must follow
	kind     byte         // of the reading goroutine: of the last frame
}

// frameScanner finds the frame headers in a stream of bytes.
type frameScanner struct {
	skip int // bytes of payload, or of the preface, that are left
	have int // bytes of a frame header so far
	b    [frameHeaderSize + 4]byte
	want int // frame header, and with RST_STREAM its code
}

func (m *frameMeter) init(s *Server) {
	m.srv = s
	m.in, m.kind = frameScanner{skip: clientPreface, want: frameHeaderSize}, frameHeaders
	m.out = frameScanner{want: frameHeaderSize}
}

// scan passes p through and calls seen for each frame, as soon as its header is there. code is that of RST_STREAM.
func (f *frameScanner) scan(p []byte, seen func(length int, kind, flags byte, code uint32)) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			continue
		}
		n := copy(f.b[f.have:f.want], p)
		f.have += n
		p = p[n:]
		if f.have < f.want {
			return
		}
		length := int(f.b[0])<<16 | int(f.b[1])<<8 | int(f.b[2])
		kind := f.b[3]
		if kind == frameRST && f.want == frameHeaderSize && length == 4 {
			f.want += 4 // Its code tells whose fault it is.
			continue
		}
		var code uint32
		if f.want > frameHeaderSize {
			code, length = binary.BigEndian.Uint32(f.b[frameHeaderSize:]), 0
		}
		f.skip, f.have, f.want = length, 0, frameHeaderSize
		seen(length, kind, f.b[4], code)
	}
}

// turn begins another window if it is time.
func (m *frameMeter) turn() {
	w := int64(now())/int64(meterWindow) + 1
	if m.window.Load() == w {
		return
	}
	m.window.Store(w)
	m.control.Store(0)
	m.useful.Store(0)
	m.opened.Store(0)
	m.resets.Store(0)
}

// received counts what the client sent.
func (m *frameMeter) received(p []byte) {
	m.turn()
	m.in.scan(p, m.gotFrame)
	// Bodies have limits of their own. All else that is not complete may be a head.
	partial := m.inHead || m.in.have > 0 || m.in.skip > 0 && m.kind != frameData
	switch from := m.headFrom.Load(); {
	case partial && from == 0:
		m.headFrom.Store(int64(now()))
	case !partial && from != 0:
		m.headFrom.Store(0)
	}
	if over := m.control.Load() - m.useful.Load()/usePerControl; over > maxControl {
		m.flood(floodControl)
	}
}

func (m *frameMeter) gotFrame(length int, kind, flags byte, _ uint32) {
	switch {
	case kind == frameHeaders && length > 0:
		m.opened.Add(1)
		m.useful.Add(int64(length))
	case kind == frameData && (length > 0 || flags&flagEndStream != 0):
		m.useful.Add(int64(length))
	case kind == frameRST:
		m.control.Add(1)
		m.reset()
	case kind == frameContinuation && length > 0:
		m.useful.Add(int64(length))
	default:
		m.control.Add(1)
	}
	if !m.inHead {
		m.headFrom.Store(0) // What was on its way has come; the time is another's now.
	}
	if m.kind = kind; kind == frameHeaders || kind == frameContinuation {
		m.inHead = flags&flagEndHeaders == 0
	}
}

// headSince returns for how long a head has been on its way.
func (m *frameMeter) headSince(t instant) time.Duration {
	if from := instant(m.headFrom.Load()); from != 0 {
		return from.until(t)
	}
	return 0
}

// sent counts what the client gets. A reset for what it did wrong counts like one of its own: else it could have work
// begun and thrown away at will.
func (m *frameMeter) sent(p []byte) {
	m.out.scan(p, m.sentFrame)
}

func (m *frameMeter) sentFrame(length int, kind, _ byte, code uint32) {
	switch {
	case kind == frameHeaders || kind == frameData:
		m.useful.Add(int64(length))
	case kind == frameRST && code != codeNone && code != codeInternal:
		m.reset()
	}
}

func (m *frameMeter) reset() {
	if n := m.resets.Add(1); n > maxResets && n > m.opened.Load()/2 {
		m.flood(floodResets)
	}
}

// flood has the connection end at its next read.
func (m *frameMeter) flood(kind int) {
	if m.flooded.CompareAndSwap(false, true) {
		m.srv.metrics.floods[kind].Inc()
	}
}
