package proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// h3Linger is how long a client that was told to go may take for requests that crossed that.
const h3Linger = time.Second

// h3Conn is a client connection that speaks HTTP/3. QUIC is the library's; what goes over its streams is ours.
type h3Conn struct {
	srv        *Server
	cfg        *Config // it was accepted under
	qc         *quic.Conn
	mux        *muxConn
	meter      h3Meter
	maxSection int              // Limit: bytes of a field section
	ready      chan struct{}    // closed when out is set
	out        *quic.SendStream // control stream

	mu      sync.Mutex
	running int     // requests
	resting instant // since when none has run
	next    uint64  // the first request that has not been taken
	left    instant // when the client was told to go; 0 = not yet
	work    sync.WaitGroup

	// Streams of which a client may open one. Guarded by mu.
	control, encoder, decoder bool
}

func newH3Conn(s *Server, qc *quic.Conn, bind *boundListener) *h3Conn {
	cfg := s.config()
	state := qc.ConnectionState().TLS
	peer := addrOfUDP(qc.RemoteAddr())
	c := &h3Conn{
		srv: s, cfg: cfg, qc: qc, maxSection: maxSection(cfg), ready: make(chan struct{}), resting: now(),
	}
	c.mux = newMuxConn(s, bind, knownClient{addr: peer}, peer, certFields(bind, &state), state.ServerName)
	c.meter.srv, c.meter.flood = s, func() { c.fault(errFlood) }
	return c
}

// serve answers the connection's requests until it ends.
func (c *h3Conn) serve() {
	defer c.mux.end()
	defer c.work.Wait()
	if err := c.openControl(); err != nil {
		c.end(h3InternalError, "no control stream")
		return
	}
	c.work.Go(c.acceptControl)
	for {
		qs, err := c.qc.AcceptStream(context.Background())
		if err != nil {
			return
		}
		if !c.begin(qs) {
			qs.CancelRead(h3RequestRejected)
			qs.CancelWrite(h3RequestRejected)
			qs.ReleaseStreamCredit()
		}
	}
}

// begin answers a request in a goroutine of its own, unless the client was told to go.
func (c *h3Conn) begin(qs *quic.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left != 0 {
		return false
	}
	c.next = uint64(qs.StreamID()) + 4 //nolint:gosec // not negative
	c.running++
	c.meter.open()
	c.work.Go(func() {
		defer c.finished(qs)
		defer c.srv.survive("stream", func() { qs.CancelWrite(h3InternalError) })
		c.serveH3(qs)
	})
	return true
}

// finished counts a request out. Only then the client may begin another one in its place: what it resets still costs
// until here.
func (c *h3Conn) finished(qs *quic.Stream) {
	qs.ReleaseStreamCredit()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running--; c.running == 0 {
		c.resting = now()
	}
}

// openControl opens the control stream and sends the settings (RFC 9114 §6.2.1, §7.2.4). No table for QPACK, no
// extended CONNECT and no datagrams are what a client assumes that is told nothing.
func (c *h3Conn) openControl() error {
	out, err := c.qc.OpenUniStream()
	if err != nil {
		return err
	}
	const maxFieldSectionSize = 0x6
	settings := appendVarint(nil, maxFieldSectionSize)
	settings = appendVarint(settings, uint64(c.maxSection)) //nolint:gosec // not negative
	b := appendFrameHeader([]byte{h3ControlStream}, h3Settings, len(settings))
	c.out = out
	close(c.ready)
	return out.TryWriteAll(append(b, settings...))
}

// leave tells the client to take its next requests elsewhere. What runs goes on.
func (c *h3Conn) leave() {
	c.mu.Lock()
	first, next := c.left == 0, c.next
	if first {
		c.left = now()
	}
	c.mu.Unlock()
	if !first {
		return
	}
	select {
	case <-c.ready:
		id := appendVarint(nil, next)
		_ = c.out.TryWriteAll(append(appendFrameHeader(nil, h3GoAway, len(id)), id...))
	case <-c.qc.Context().Done():
	}
}

// sweep ends a connection that has no more use, and the writes that the client does not take.
func (c *h3Conn) sweep(t instant) {
	c.mux.sweep(t)
	idle := c.srv.config().IdleTimeout
	c.mu.Lock()
	rests, resting, left := c.running == 0, c.resting, c.left
	c.mu.Unlock()
	switch {
	case !rests:
	case left == 0 && idle > 0 && resting.until(t) > idle:
		c.leave()
	case left != 0 && max(left, resting).until(t) >= h3Linger:
		go c.end(h3NoError, "")
	}
}

// end closes the connection. It waits until that is under way.
func (c *h3Conn) end(code uint64, why string) {
	_ = c.qc.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// fault counts what the client did wrong, and ends the connection if it costs that.
func (c *h3Conn) fault(f *h3Fault) {
	if !f.ends {
		c.srv.metrics.h3Errors[scopeStream].Inc()
		return
	}
	c.srv.metrics.h3Errors[scopeConnection].Inc()
	c.srv.log.Debug("http/3 connection ended", "client", c.mux.view().peer.addr.String(), "error", f.what)
	go c.end(f.code, f.what)
}

// acceptControl takes the streams that carry no requests.
func (c *h3Conn) acceptControl() {
	for {
		us, err := c.qc.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		c.work.Go(func() {
			defer us.ReleaseStreamCredit()
			defer c.srv.survive("stream", func() {})
			if err := c.readControl(us); err != nil {
				var f *h3Fault
				if errors.As(err, &f) {
					c.fault(f)
				}
			}
		})
	}
}

// readControl reads a unidirectional stream.
func (c *h3Conn) readControl(us *quic.ReceiveStream) error {
	d := h3Reader{r: us, buf: make([]byte, 256)}
	kind, err := d.varint()
	if err != nil {
		return nil //nolint:nilerr // It ended before it was anything (RFC 9114 §6.2).
	}
	var open *bool
	var read func(*h3Reader) error
	switch kind {
	case h3ControlStream:
		open, read = &c.control, c.readFrames
	case h3EncoderStream:
		open, read = &c.encoder, readEncoder
	case h3DecoderStream:
		open, read = &c.decoder, c.readDecoder
	case h3PushStream:
		return &h3Fault{h3StreamCreationError, true, "push stream from a client"}
	default:
		us.CancelRead(h3StreamCreationError)
		return c.meter.control(0)
	}
	c.mu.Lock()
	doubled := *open
	*open = true
	c.mu.Unlock()
	if doubled {
		return &h3Fault{h3StreamCreationError, true, "second stream of its type"}
	}
	err = read(&d)
	var f *h3Fault
	var reset *quic.StreamError
	if errors.Is(err, io.EOF) || errors.As(err, &reset) || errors.As(err, &f) && f == errFrameCut {
		return &h3Fault{h3ClosedCritical, true, "critical stream closed"}
	}
	return err
}

// maxSettings bounds a SETTINGS frame.
const maxSettings = 4 << 10 // Limit: bytes

// readFrames reads the client's control stream.
func (c *h3Conn) readFrames(d *h3Reader) error {
	kind, length, err := d.frame()
	switch {
	case err != nil:
		return err
	case kind != h3Settings:
		return &h3Fault{h3MissingSettings, true, "first frame is not SETTINGS"}
	case length > maxSettings:
		return &h3Fault{h3ExcessiveLoad, true, "SETTINGS too large"}
	}
	payload, err := d.payload(int(length)) //nolint:gosec // at most maxSettings
	if err != nil {
		return err
	}
	if err := checkSettings(payload); err != nil {
		return err
	}
	for {
		kind, length, err := d.frame()
		if err != nil {
			return err
		}
		switch kind {
		case h3Data, h3Headers, h3Settings, h3PushPromise:
			return errFrameUnexpected
		}
		if ofHTTP2(kind) {
			return errFrameUnexpected
		}
		// GOAWAY, MAX_PUSH_ID and CANCEL_PUSH are about pushes, and there are none; others are hints or unknown.
		if err := c.meter.control(length); err != nil {
			return err
		}
		if err := d.skip(length); err != nil {
			return err
		}
	}
}

// checkSettings refuses what must not stand in SETTINGS (RFC 9114 §7.2.4). No setting of a client changes what it is
// sent: its limit of field sections is advice, and its table for QPACK stays empty.
func checkSettings(payload []byte) error {
	bad := &h3Fault{h3SettingsError, true, "SETTINGS"}
	seen := make(map[uint64]bool)
	d := h3Reader{r: eof{}, buf: payload, n: len(payload), err: io.EOF}
	for {
		id, err := d.varint()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &h3Fault{h3FrameError, true, "SETTINGS cut short"}
		}
		if _, err := d.varint(); err != nil {
			return &h3Fault{h3FrameError, true, "SETTINGS cut short"}
		}
		if seen[id] || id == 0 || id >= 2 && id <= 5 {
			return bad
		}
		seen[id] = true
	}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// readEncoder reads the client's QPACK encoder stream. The table's capacity is zero: nothing can be said but that it is
// zero (RFC 9204 §4.3.1).
func readEncoder(d *h3Reader) error {
	const capacityZero = 0x20
	for {
		b, err := d.byte()
		if err != nil {
			return err
		}
		if b != capacityZero {
			return &h3Fault{qpackEncoderError, true, "instruction for a table that is not there"}
		}
	}
}

// readDecoder reads the client's QPACK decoder stream, which says how far it is with a table that is not used.
func (c *h3Conn) readDecoder(d *h3Reader) error {
	for {
		if err := d.fill(); err != nil {
			return err
		}
		d.i = d.n
		if err := c.meter.control(0); err != nil {
			return err
		}
	}
}

// h3Meter counts what costs work and carries no request, like floodMeter, whose limits it shares. QUIC's own frames are
// the library's to bound.
type h3Meter struct {
	srv      *Server
	flooded  atomic.Bool
	window   atomic.Int64 // number of the present meterWindow
	controls atomic.Int64
	bytes    atomic.Int64 // of heads and bodies, both ways
	opened   atomic.Int64
	resets   atomic.Int64
	flood    func()
}

var errFlood = &h3Fault{h3ExcessiveLoad, true, "flood"}

// turn begins another window if it is time.
func (m *h3Meter) turn() {
	w := int64(now())/int64(meterWindow) + 1
	if m.window.Load() == w || m.window.Swap(w) == w {
		return
	}
	m.controls.Store(0)
	m.bytes.Store(0)
	m.opened.Store(0)
	m.resets.Store(0)
}

// open counts a request.
func (m *h3Meter) open() {
	m.turn()
	m.opened.Add(1)
}

// useful counts bytes of heads and bodies.
func (m *h3Meter) useful(n int) { m.bytes.Add(int64(n)) }

// control counts a frame that carries no request, and its bytes. It returns errFlood if that is too much.
func (m *h3Meter) control(length uint64) error {
	m.turn()
	n := m.controls.Add(1 + int64(min(length, 1<<30)/usePerControl))
	if n-m.bytes.Load()/usePerControl <= maxControl {
		return nil
	}
	if m.flooded.CompareAndSwap(false, true) {
		m.srv.metrics.h3Floods[floodControl].Inc()
	}
	return errFlood
}

// reset counts a request that the client gave up.
func (m *h3Meter) reset() {
	if n := m.resets.Add(1); n > maxResets && n > m.opened.Load()/2 && m.flooded.CompareAndSwap(false, true) {
		m.srv.metrics.h3Floods[floodResets].Inc()
		m.flood()
	}
}
