package proxy

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"unsafe"

	"github.com/quic-go/qpack"
)

// This file turns field sections of HTTP/3 into heads of HTTP/1.1 and back, and refuses malformed ones (RFC 9114 §4.2,
// §4.3). What makes a request's sense is judged later, by the rules of all versions.

// malformed makes a fault of a message.
func malformed(what string) error { return &h3Fault{h3MessageError, false, what} }

// errSectionTooLarge says that the fields of a section, with 32 bytes for each, exceed the limit.
var errSectionTooLarge = errors.New("http/3: field section too large")

// decodeSection calls take for each field of a section, which it holds to the rules of all sections. It returns
// errSectionTooLarge as soon as limit bytes are exceeded (RFC 9114 §4.2.2).
func decodeSection(block []byte, limit int, take func(name, value string) error) error {
	next := qpack.NewDecoder().Decode(block)
	for {
		f, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errBlock
		}
		if limit -= len(f.Name) + len(f.Value) + 32; limit < 0 {
			return errSectionTooLarge
		}
		if !validStreamValue(f.Value) {
			return malformed("field value with control characters, or blanks around it")
		}
		if err := take(f.Name, f.Value); err != nil {
			return err
		}
	}
}

// Pseudo-header fields of a request, as bits.
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
)

// h3Head is a request's head as its fields come in.
type h3Head struct {
	method, scheme, path, authority string
	pseudo                          uint8  // those that have come
	regular                         bool   // others have come
	tooLarge                        bool   // and more than may be kept
	expects                         bool   // there is an Expect
	host                            string // of a Host field
	hosts                           int
	length                          []byte // of a Content-Length, nil without one
	cookie                          []byte // RFC 9114 §4.2.1: it may come in crumbs
	lines                           []byte // all other fields
}

func (h *h3Head) reset() { *h = h3Head{cookie: h.cookie[:0], lines: h.lines[:0]} }

// take adds a field.
func (h *h3Head) take(name, value string) error {
	if strings.HasPrefix(name, ":") {
		return h.takePseudo(name, value)
	}
	h.regular = true
	if err := checkH3Field(name, value); err != nil {
		return err
	}
	switch name {
	case "cookie":
		if len(h.cookie) > 0 {
			h.cookie = append(h.cookie, "; "...)
		}
		h.cookie = append(h.cookie, value...)
		return nil
	case "host":
		h.host = value
		h.hosts++
		return nil
	case "content-length":
		h.length = []byte(value)
	case "expect":
		h.expects = true
	}
	h.lines = appendH3Line(h.lines, name, value)
	return nil
}

func (h *h3Head) takePseudo(name, value string) error {
	var to *string
	var bit uint8
	switch name {
	case ":method":
		to, bit = &h.method, pseudoMethod
	case ":scheme":
		to, bit = &h.scheme, pseudoScheme
	case ":path":
		to, bit = &h.path, pseudoPath
	case ":authority":
		to, bit = &h.authority, pseudoAuthority
	default: // :protocol among them: RFC 9220 is not offered.
		return malformed("unknown pseudo-header field")
	}
	if h.pseudo&bit != 0 || h.regular {
		return malformed("pseudo-header field doubled or late")
	}
	*to = value
	h.pseudo |= bit
	return nil
}

// checkH3Field refuses names that are none and fields that are about a connection (RFC 9114 §4.2).
func checkH3Field(name, value string) error {
	if !isLowerToken(name) {
		return malformed("field name")
	}
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return malformed("connection-specific field")
	case "te":
		if value != "trailers" {
			return malformed("TE field")
		}
	}
	return nil
}

// check holds the pseudo-header fields against each other (RFC 9114 §4.3.1).
func (h *h3Head) check() error {
	if !isToken([]byte(h.method)) {
		return malformed("method")
	}
	if h.hosts > 1 || h.hosts == 1 && h.pseudo&pseudoAuthority != 0 && h.host != h.authority {
		return malformed("Host unlike :authority")
	}
	if h.method == "CONNECT" {
		if h.pseudo&(pseudoScheme|pseudoPath) != 0 || !isVisible(h.authority) {
			return malformed("CONNECT")
		}
		h.path = h.authority
		return nil
	}
	if scheme := strings.ToLower(h.scheme); scheme != "https" && scheme != "http" {
		return malformed("scheme")
	}
	if h.pseudo&pseudoAuthority == 0 {
		h.authority = h.host
	}
	switch {
	case !isVisible(h.authority) || strings.Contains(h.authority, "@"):
		return malformed("authority")
	case !isVisible(h.path) || h.path[0] != '/' && (h.path != "*" || h.method != "OPTIONS"):
		return malformed("path")
	}
	return nil
}

// appendTo appends the head as HTTP/1.1 has it, with a body of unknown length or not.
func (h *h3Head) appendTo(dst []byte, chunked bool) []byte {
	dst = append(append(dst, h.method...), ' ')
	dst = append(append(dst, h.path...), " HTTP/1.1\r\n"...)
	if h.authority != "" {
		dst = append(append(append(dst, "Host: "...), h.authority...), "\r\n"...)
	}
	dst = append(dst, h.lines...)
	if len(h.cookie) > 0 {
		dst = append(append(append(dst, "Cookie: "...), h.cookie...), "\r\n"...)
	}
	if chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if h.tooLarge {
		return dst
	}
	return append(dst, "\r\n"...)
}

// appendH3Line appends a field line, the name in the case that backends are used to.
func appendH3Line(dst []byte, name, value string) []byte {
	start := len(dst)
	dst = append(dst, name...)
	upper := true
	for i := start; i < len(dst); i++ {
		if c := dst[i]; upper && c >= 'a' && c <= 'z' {
			dst[i] = c - ('a' - 'A')
		}
		upper = dst[i] == '-'
	}
	return append(append(append(dst, ": "...), value...), "\r\n"...)
}

// keepsToLine reports whether a value holds no control character that could end its line, or worse.
func keepsToLine(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isVisible reports whether s is not empty and holds neither blanks nor control characters.
func isVisible(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return s != ""
}

func isLowerToken(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || !token[c] {
			return false
		}
	}
	return name != ""
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
	e.name = append(e.name[:0], name...)
	for i, c := range e.name {
		if c >= 'A' && c <= 'Z' {
			e.name[i] = c + ('a' - 'A')
		}
	}
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

// text is b as a string.
//
// Unsafe: it holds until b changes; the library keeps nothing of what it encodes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
