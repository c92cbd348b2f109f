package proxy

import (
	"bytes"
	"strings"
	"unsafe"
)

// streamHead makes the head of HTTP/1.1 of the fields of a request of HTTP/2 or HTTP/3 as they come in, and tells
// malformed ones (RFC 9113 §8.2, §8.3; RFC 9114 §4.2, §4.3). What a well-formed head says is judged later, by the rules
// of all versions. It also takes trailers, which are fields only.
type streamHead struct {
	dst     []byte // the head so far
	limit   int    // bytes of it that are of use: of what is longer, the beginning is kept
	trailer bool
	fault   string // what makes it malformed, "" = nothing does

	method, scheme, path, authority string
	seen                            uint8 // pseudo-header fields
	regular                         bool  // the pseudo-header fields are over
	expects                         bool  // there is an Expect
	sized                           bool  // there is a Content-Length
	length                          int64 // of it, -1 if there is none that can be read
	host                            string
	cookies                         []byte // of all Cookie fields; its memory is used again
}

// Pseudo-header fields of a request, as bits.
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
)

// begin makes h ready for another list of fields. What it makes of them is appended to dst.
func (h *streamHead) begin(dst []byte, limit int, trailer bool) {
	*h = streamHead{dst: dst, limit: limit, trailer: trailer, length: -1, cookies: h.cookies[:0]}
}

// full reports whether the head exceeds its limit: what follows changes nothing any more.
func (h *streamHead) full() bool { return len(h.dst) > h.limit || len(h.cookies) > h.limit }

// take takes a field.
func (h *streamHead) take(name, value string) {
	switch {
	case h.fault != "" || h.full():
	case !validStreamValue(value):
		h.fault = "field value with control characters or blanks around it"
	case strings.HasPrefix(name, ":"):
		h.takePseudo(name, value)
	case !isLowerToken(name):
		h.fault = "field name"
	default:
		if h.begun() {
			h.takeField(name, value)
		}
	}
}

func (h *streamHead) takePseudo(name, value string) {
	var which uint8
	var at *string
	switch name {
	case ":method":
		which, at = pseudoMethod, &h.method
	case ":scheme":
		which, at = pseudoScheme, &h.scheme
	case ":path":
		which, at = pseudoPath, &h.path
	case ":authority":
		which, at = pseudoAuthority, &h.authority
	}
	switch {
	case at == nil: // :protocol among them: WebSocket over a stream (RFC 8441, RFC 9220) is not offered.
		h.fault = "unknown pseudo-header field"
	case h.seen&which != 0 || h.regular || h.trailer:
		h.fault = "pseudo-header field doubled or late"
	default:
		h.seen |= which
		*at = value
	}
}

// begun writes the request line as soon as the pseudo-header fields are over. It reports false if they are malformed.
func (h *streamHead) begun() bool {
	if h.regular || h.trailer {
		return h.fault == ""
	}
	h.regular = true
	if h.fault = h.judgePseudo(); h.fault != "" {
		return false
	}
	target := h.path
	if h.method == "CONNECT" {
		target = h.authority
	}
	h.add(h.method)
	h.add(" ")
	h.add(target)
	h.add(" HTTP/1.1\r\n")
	if h.authority != "" {
		h.addLine("Host", h.authority)
	}
	return true
}

// judgePseudo holds the pseudo-header fields against each other. It returns what is wrong with them.
func (h *streamHead) judgePseudo() string {
	switch {
	case !isVisible(h.method):
		return "method"
	case h.seen&pseudoAuthority != 0 && !isVisible(h.authority) || strings.Contains(h.authority, "@"):
		return "authority"
	case h.method == "CONNECT": // RFC 9113 §8.5, RFC 9114 §4.4
		if h.seen&(pseudoScheme|pseudoPath) != 0 || h.seen&pseudoAuthority == 0 {
			return "CONNECT"
		}
	case !strings.EqualFold(h.scheme, "https") && !strings.EqualFold(h.scheme, "http"):
		return "scheme"
	case !isVisible(h.path) || h.path[0] != '/' && (h.path != "*" || h.method != "OPTIONS"):
		return "path"
	}
	return ""
}

func (h *streamHead) takeField(name, value string) {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		h.fault = "connection-specific field" // RFC 9113 §8.2.2, RFC 9114 §4.2
		return
	case "te":
		if value != "trailers" {
			h.fault = "TE field"
			return
		}
	case "host":
		h.takeHost(value)
		return
	case "content-length":
		n, ok := parseLength([]byte(value))
		h.sized = true
		if h.length = -1; ok {
			h.length = n
		}
	case "expect":
		h.expects = true
	case "cookie":
		if !h.trailer {
			h.takeCookie(value)
			return
		}
	}
	h.addLine(name, value)
}

// takeCookie joins Cookie fields (RFC 9113 §8.2.3, RFC 9114 §4.2.1).
func (h *streamHead) takeCookie(value string) {
	if len(h.cookies) > 0 {
		h.cookies = append(h.cookies, "; "...)
	}
	h.cookies = append(h.cookies, value[:min(len(value), h.limit+1)]...)
}

// takeHost takes a Host field, which must not differ from :authority and stands for it where that is missing
// (RFC 9113 §8.3.1, RFC 9114 §4.3.1).
func (h *streamHead) takeHost(value string) {
	switch {
	case h.trailer || h.host != "" || h.authority != "" && value != h.authority:
		h.fault = "Host unlike :authority"
	case h.authority == "":
		h.addLine("Host", value)
	}
	h.host = value
}

// sound reports whether the fields so far are well-formed, when all have come.
func (h *streamHead) sound() bool { return h.fault == "" && h.begun() }

// end completes a head. body says that a body follows. It reports whether the request is well-formed.
func (h *streamHead) end(body bool) bool {
	if !h.sound() || h.trailer {
		return h.fault == ""
	}
	if len(h.cookies) > 0 {
		h.add("Cookie: ")
		h.dst = append(append(h.dst, h.cookies...), "\r\n"...)
	}
	if body && !h.sized {
		h.add("Transfer-Encoding: chunked\r\n")
	}
	h.add("\r\n")
	return body || h.length <= 0 // RFC 9113 §8.1.1, RFC 9114 §4.1.2
}

// add appends to the head. What exceeds the limit is judged by the fact that it does.
func (h *streamHead) add(s string) {
	if len(h.dst) <= h.limit {
		h.dst = append(h.dst, s[:min(len(s), h.limit+1)]...)
	}
}

// addLine appends a field line. Names get the case that backends are used to.
func (h *streamHead) addLine(name, value string) {
	if len(h.dst)+len(name) > h.limit {
		h.add(name)
		return
	}
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		h.dst = append(h.dst, c)
	}
	h.dst = append(append(append(h.dst, ": "...), value[:min(len(value), h.limit+1)]...), "\r\n"...)
}

// validStreamValue reports whether a value keeps to its line and has no white space around it (RFC 9113 §8.2.1,
// RFC 9114 §10.3).
func validStreamValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	if n := len(v); n > 0 {
		first, last := v[0], v[n-1]
		return first != ' ' && first != '\t' && last != ' ' && last != '\t'
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

// isLowerToken reports whether name is a token without upper-case letters.
func isLowerToken(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || !token[c] {
			return false
		}
	}
	return name != ""
}

// maxSection is the limit of a head, 32 bytes for each field included, that clients are told: larger ones they keep to
// themselves, and those that are a little too large are answered. HTTP/3 decodes nothing that exceeds it.
func maxSection(cfg *Config) int { return 2*cfg.MaxHeaderBytes + entryOverhead*cfg.MaxHeaderFields }

// cutLine cuts the first line, without its end, off the field lines of an answer.
func cutLine(lines []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(lines, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// text is b as a string.
//
// Unsafe: it holds until b changes; the libraries keep nothing of what they encode.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
