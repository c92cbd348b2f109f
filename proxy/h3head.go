package proxy

import (
	"errors"
	"io"
	"strconv"

	"github.com/quic-go/qpack"
)

// This file reads and writes field sections of HTTP/3.

// malformed makes a fault of a message.
func malformed(what string) error { return &h3Fault{h3MessageError, false, what} }

// errSectionTooLarge says that the fields of a section, with 32 bytes for each, exceed the limit.
var errSectionTooLarge = errors.New("http/3: field section too large")

// decodeSection has h take each field of a section. It returns errSectionTooLarge as soon as limit bytes are exceeded
// (RFC 9114 §4.2.2).
func decodeSection(block []byte, limit int, h *streamHead) error {
	next := qpack.NewDecoder().Decode(block)
	for {
		f, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errBlock
		}
		if limit -= len(f.Name) + len(f.Value) + entryOverhead; limit < 0 {
			return errSectionTooLarge
		}
		if h.take(f.Name, f.Value); h.fault != "" {
			return malformed(h.fault)
		}
	}
}

// h3Encoder encodes field sections, one after another.
type h3Encoder struct {
	block []byte
	name  []byte // scratch: in lower case
	enc   *qpack.Encoder
}

// Write implements io.Writer for the library.
func (e *h3Encoder) Write(p []byte) (int, error) {
	e.block = append(e.block, p...)
	return len(p), nil
}

// begin drops the section before.
func (e *h3Encoder) begin() {
	if e.enc == nil {
		e.enc = qpack.NewEncoder(e)
	}
	e.block = e.block[:0]
	_ = e.enc.Close() // It only makes the encoder begin anew.
}

// field adds a field.
func (e *h3Encoder) field(name, value []byte) {
	e.name = appendLower(e.name[:0], name)
	e.write(text(e.name), text(value))
}

// status adds the status.
func (e *h3Encoder) status(status int) { e.write(":status", strconv.Itoa(status)) }

func (e *h3Encoder) write(name, value string) {
	_ = e.enc.WriteField(qpack.HeaderField{Name: name, Value: value}) // Our own Write never fails.
}

// appendFrame appends the section as a HEADERS frame.
func (e *h3Encoder) appendFrame(dst []byte) []byte {
	return append(appendFrameHeader(dst, h3Headers, len(e.block)), e.block...)
}
