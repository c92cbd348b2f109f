package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of frames that mean something here (RFC 9114 §7.2).
const (
	h3Data        = 0x0
	h3Headers     = 0x1
	h3CancelPush  = 0x3
	h3Settings    = 0x4
	h3PushPromise = 0x5
	h3GoAway      = 0x7
	h3MaxPushID   = 0xd
)

// Types of unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2).
const (
	h3ControlStream = 0x0
	h3PushStream    = 0x1
	h3EncoderStream = 0x2
	h3DecoderStream = 0x3
)

// Error codes (RFC 9114 §8.1, RFC 9204 §6).
const (
	h3NoError             = 0x100
	h3InternalError       = 0x102
	h3StreamCreationError = 0x103
	h3ClosedCritical      = 0x104
	h3FrameUnexpected     = 0x105
	h3FrameError          = 0x106
	h3ExcessiveLoad       = 0x107
	h3SettingsError       = 0x109
	h3MissingSettings     = 0x10a
	h3RequestRejected     = 0x10b
	h3RequestIncomplete   = 0x10d
	h3MessageError        = 0x10e
	qpackFailed           = 0x200
	qpackEncoderError     = 0x201
)

// h3Fault is what a client did against the rules of HTTP/3, and what it costs: the stream or the connection.
type h3Fault struct {
	code uint64
	ends bool // the connection
	what string
}

// Error implements error.
func (f *h3Fault) Error() string { return fmt.Sprintf("http/3: %s (code %#x)", f.what, f.code) }

// Faults of frames. Those of a message end its stream, all others the connection (RFC 9114 §4.1.2, §7.1).
var (
	errFrameCut        = &h3Fault{h3FrameError, true, "stream ends within a frame"}
	errFrameUnexpected = &h3Fault{h3FrameUnexpected, true, "frame has no place here"}
	errNoHead          = &h3Fault{h3RequestIncomplete, false, "stream ends before a request"}
	errBlock           = &h3Fault{qpackFailed, true, "field section can't be decoded"}
)

// h3Reader reads frames from a stream. What it holds is borrowed from the caller: buf.
type h3Reader struct {
	r    io.Reader
	buf  []byte
	i, n int   // buf[i:n] has been read from r and not been taken
	err  error // of r, once buf[i:n] is used up
}

// fill reads more when nothing is left, and returns the error that ended the stream, io.EOF at its end.
func (d *h3Reader) fill() error {
	for d.i == d.n {
		if d.err != nil {
			return d.err
		}
		d.i = 0
		d.n, d.err = d.r.Read(d.buf)
	}
	return nil
}

// ended reports whether the end of the stream is known and nothing is left before it. It does not wait.
func (d *h3Reader) ended() bool { return d.i == d.n && errors.Is(d.err, io.EOF) }

// byte returns the next byte.
func (d *h3Reader) byte() (byte, error) {
	if d.i == d.n {
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	b := d.buf[d.i]
	d.i++
	return b, nil
}

// varint reads an integer (RFC 9000 §16). The error is io.EOF only if the stream ends before its first byte.
func (d *h3Reader) varint() (uint64, error) {
	b, err := d.byte()
	if err != nil {
		return 0, err
	}
	v := uint64(b & 0x3f)
	for range 1<<(b>>6) - 1 {
		if b, err = d.byte(); err != nil {
			return 0, cutFrame(err)
		}
		v = v<<8 | uint64(b)
	}
	return v, nil
}

// cutFrame is err for a stream that ends where more must come.
func cutFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return errFrameCut
	}
	return err
}

// frame reads the header of the next frame. The error is io.EOF only between two frames.
func (d *h3Reader) frame() (kind, length uint64, err error) {
	if kind, err = d.varint(); err != nil {
		return 0, 0, err
	}
	length, err = d.varint()
	return kind, length, cutFrame(err)
}

// read reads some of a frame's payload.
func (d *h3Reader) read(p []byte) (int, error) {
	if d.i < d.n {
		n := copy(p, d.buf[d.i:d.n])
		d.i += n
		return n, nil
	}
	if d.err != nil {
		return 0, cutFrame(d.err)
	}
	if len(p) < len(d.buf) {
		if err := d.fill(); err != nil {
			return 0, cutFrame(err)
		}
		return d.read(p)
	}
	n, err := d.r.Read(p) // Large reads need no copy.
	d.err = err
	if n > 0 {
		return n, nil
	}
	return 0, cutFrame(err)
}

// payload reads a whole payload, which is valid until the next call of a method of d.
func (d *h3Reader) payload(length int) ([]byte, error) {
	if d.n-d.i >= length { // Fast path: a small head is in memory already.
		p := d.buf[d.i : d.i+length]
		d.i += length
		return p, nil
	}
	// It grows as bytes come, so that a length alone takes no memory.
	p := make([]byte, 0, min(length, smallBuffer))
	for len(p) < length {
		if len(p) == cap(p) {
			p = append(p, 0)[:len(p)]
		}
		n, err := d.read(p[len(p):min(cap(p), length)])
		if p = p[:len(p)+n]; err != nil {
			return nil, err
		}
	}
	return p, nil
}

// skip drops a payload.
func (d *h3Reader) skip(length uint64) error {
	for length > 0 {
		if err := d.fill(); err != nil {
			return cutFrame(err)
		}
		n := min(uint64(d.n-d.i), length)
		d.i += int(n) //nolint:gosec // at most the size of buf
		length -= n
	}
	return nil
}

// appendVarint appends an integer below 2^62 (RFC 9000 §16).
func appendVarint(dst []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(dst, byte(v))
	case v < 1<<14:
		return append(dst, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return append(dst, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
	}
	return binary.BigEndian.AppendUint64(dst, v|0xc0<<56)
}

// appendFrameHeader appends type and length of a frame.
func appendFrameHeader(dst []byte, kind uint64, length int) []byte {
	return appendVarint(appendVarint(dst, kind), uint64(length)) //nolint:gosec // a length
}

// ofHTTP2 reports whether a frame type is one that HTTP/2 had, and HTTP/3 forbids (RFC 9114 §7.2.8).
func ofHTTP2(kind uint64) bool { return kind == 0x2 || kind == 0x6 || kind == 0x8 || kind == 0x9 }
