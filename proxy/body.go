package proxy

import (
	"bytes"
	"io"
)

// Limits of chunked bodies beyond their data.
const (
	maxChunkLine    = 4 << 10  // Limit: a size line with its extensions
	maxChunkWaste   = 16 << 10 // Limit: bytes of framing beyond chunkAllowance for each chunk, over a whole body
	chunkAllowance  = 16       // bytes of framing that a chunk may cost for nothing
	maxTrailerBytes = 8 << 10  // Limit: the trailer section
	maxTrailers     = 32       // Limit: trailer fields
)

// body reads one message body off a source, strictly: what is not framed as announced is an error for ever, and an end
// of the connection before the body's end never looks like its end. Not for concurrent use.
type body struct {
	src     *source
	framing framing
	left    int64 // bytes left of the length, or of the chunk
	total   int64 // data bytes given out
	limit   int64 // Limit: data bytes; 0 = none
	waste   int   // framing bytes beyond the allowance
	state   chunkState
	err     error // sticky
	trailer head  // trailer fields, complete after io.EOF
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd // CRLF after the data
	chunkTrailer
)

// start makes b read a body with the given framing from src.
func (b *body) start(src *source, f framing, length int64) {
	t := b.trailer
	t.reset()
	*b = body{src: src, framing: f, left: length, trailer: t}
	if f == framingNone {
		b.err = io.EOF
	}
}

// done reports whether the body was read to its proper end.
func (b *body) done() bool { return b.err == io.EOF }

// ready returns the next data bytes if they are in the buffer already; none and a nil error mean that the connection
// must be read first. The bytes are valid until the next call of ready or next.
func (b *body) ready() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	var p []byte
	switch b.framing {
	case framingLength:
		p = b.take(b.src.buffered())
		if len(p) == 0 && b.left == 0 {
			b.err = io.EOF
		}
	case framingClose:
		p = b.src.buffered()
		b.src.consume(len(p))
	case framingChunked:
		p, b.err = b.chunk()
	}
	b.total += int64(len(p))
	if b.limit > 0 && b.total > b.limit {
		b.err = errBodyLimit
	}
	return p, b.err
}

// take consumes and returns what of p belongs to the length or chunk.
func (b *body) take(p []byte) []byte {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	b.left -= int64(len(p))
	b.src.consume(len(p))
	return p
}

// next returns the next data bytes, reading the connection if none are buffered. At the end of the body it returns
// io.EOF.
func (b *body) next() ([]byte, error) {
	for {
		p, err := b.ready()
		if len(p) > 0 || err != nil {
			return p, err
		}
		if b.framing == framingLength && b.left == 0 {
			continue
		}
		if len(b.src.buffered()) == len(b.src.buf.b) {
			b.src.reserve(bodyBuffer)
		}
		if err = b.src.fill(); err != nil {
			b.err = b.ended(err)
			return nil, b.err
		}
	}
}

// ended says what the end of the connection, or an error on it, means to the body.
func (b *body) ended(err error) error {
	if err != io.EOF {
		return err
	}
	if b.framing == framingClose {
		return io.EOF
	}
	return errBodyCut
}

// chunk decodes up to the next data bytes in the buffer (RFC 9112 §7.1).
func (b *body) chunk() ([]byte, error) {
	for {
		switch p := b.src.buffered(); b.state {
		case chunkSize:
			n, err := b.sizeLine(p)
			if n == 0 {
				return nil, err
			}
			b.src.consume(n)
			if b.state = chunkData; b.left == 0 {
				b.state = chunkTrailer
			}
		case chunkData:
			if b.left == 0 {
				b.state = chunkEnd
				continue
			}
			return b.take(p), nil
		case chunkEnd:
			switch {
			case len(p) > 0 && p[0] != '\r' || len(p) > 1 && p[1] != '\n':
				return nil, errBodySyntax
			case len(p) < 2:
				return nil, nil
			}
			b.src.consume(2)
			b.state = chunkSize
		case chunkTrailer:
			return nil, b.readTrailer(p)
		}
	}
}

// sizeLine parses `1*HEXDIG [BWS] [;ext] CRLF` and returns its length, 0 if it is not complete.
func (b *body) sizeLine(p []byte) (int, error) {
	nl := bytes.IndexByte(p, '\n')
	if nl < 0 {
		if len(p) > maxChunkLine {
			return 0, errBodySyntax
		}
		if len(p) > 0 && hexDigit(p[0]) < 0 {
			return 0, errBodySyntax
		}
		return 0, nil
	}
	if nl > maxChunkLine || nl == 0 || p[nl-1] != '\r' {
		return 0, errBodySyntax
	}
	if b.waste += max(0, nl+3-chunkAllowance); b.waste > maxChunkWaste {
		return 0, errBodySyntax
	}
	size, rest, ok := parseChunkSize(p[:nl-1])
	if !ok || len(rest) > 0 && rest[0] != ';' || !validValue(rest) {
		return 0, errBodySyntax
	}
	b.left = size
	return nl + 1, nil
}

// parseChunkSize reads the hexadecimal size and the white space after it.
func parseChunkSize(p []byte) (size int64, rest []byte, ok bool) {
	i := 0
	for ; i < len(p); i++ {
		d := hexDigit(p[i])
		if d < 0 {
			break
		}
		if size >= 1<<58 {
			return 0, nil, false
		}
		size = size<<4 | int64(d)
	}
	return size, bytes.TrimLeft(p[i:], " \t"), i > 0 && i <= 16
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

var trailerRules = headRules{maxBytes: maxTrailerBytes, maxFields: maxTrailers, section: true}

// readTrailer reads the trailer section, which ends like a head, line by line as it comes. It returns io.EOF when it is
// complete. The fields are copied: they outlive the buffer's next use.
func (b *body) readTrailer(p []byte) error {
	n, bad := b.trailer.scan(p, &trailerRules)
	switch {
	case bad != 0:
		return errBodySyntax
	case n == 0:
		return nil
	case len(b.trailer.fields) > 0:
		b.trailer.b = bytes.Clone(p[:n])
	}
	b.src.consume(n)
	return io.EOF
}

// forbiddenTrailer reports whether a field may not travel in a trailer section (RFC 9110 §6.5.1): framing, routing,
// authentication and everything that the head has decided.
func forbiddenTrailer(h *head, f *field) bool {
	if f.kind != fieldPlain {
		return true
	}
	name := f.name.of(h.b)
	for _, n := range []string{
		"authorization", "cookie", "set-cookie", "content-encoding", "content-type", "content-range", "cache-control",
		"www-authenticate", "location", "age", "expires", "vary", "pragma", "range", "if-match", "if-none-match",
		"if-modified-since", "if-unmodified-since", "if-range",
	} {
		if equalFold(name, n) {
			return true
		}
	}
	return false
}

// appendTrailers appends the trailer section of b with its closing empty line, without the fields that may not be
// there.
func appendTrailers(dst []byte, t *head) []byte {
	for i := range t.fields {
		if f := &t.fields[i]; !forbiddenTrailer(t, f) {
			dst = t.appendField(dst, f)
		}
	}
	return append(dst, "\r\n"...)
}

// chunkFrame is room for the framing of one chunk: size line and line ends.
const chunkFrame = 24

// appendChunk frames data as one chunk.
func appendChunk(dst, data []byte) []byte {
	dst = appendHex(dst, len(data))
	dst = append(dst, "\r\n"...)
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}

func appendHex(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	var b [16]byte
	i := len(b)
	for {
		i--
		b[i] = digits[n&15]
		if n >>= 4; n == 0 {
			return append(dst, b[i:]...)
		}
	}
}
