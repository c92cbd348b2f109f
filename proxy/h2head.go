package proxy

import (
	"strings"

	"golang.org/x/net/http2/hpack"
)

// h2Head makes the head of HTTP/1.1 of the fields of a block, and tells malformed ones (RFC 9113 §8.2, §8.3). What a
// well-formed head says is judged later, by the rules of all versions. It also takes trailers, which are fields only.
type h2Head struct {
	dst     []byte // the head so far
	limit   int    // bytes of it that are of use: of what is longer, the beginning is kept
	trailer bool
	bad     bool // malformed

	method, scheme, path, authority string
	seen                            uint8 // pseudo-header fields
	regular                         bool  // the pseudo-header fields are over
	host                            string
	length                          int64  // of Content-Length, -1 if there is none that can be read
	sized                           bool   // there is a Content-Length
	cookies                         []byte // of all Cookie fields; its memory is used again
}

// begin makes h ready for another block.
func (h *h2Head) begin(dst []byte, limit int, trailer bool) {
	*h = h2Head{dst: dst, limit: limit, trailer: trailer, length: -1, cookies: h.cookies[:0]}
}

// take takes a field. It is the decoder's emit function.
func (h *h2Head) take(f hpack.HeaderField) {
	switch {
	case h.bad || len(h.dst) > h.limit || len(h.cookies) > h.limit: // What follows changes nothing any more.
	case f.Name == "":
		h.bad = true
	case f.Name[0] == ':':
		h.takePseudo(f.Name, f.Value)
	case !isLowerToken(f.Name) || !validStreamValue(f.Value):
		h.bad = true
	default:
		if !h.regular && !h.trailer {
			h.beginFields()
		}
		h.takeField(f.Name, f.Value)
	}
}

func (h *h2Head) takePseudo(name, value string) {
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
	if at == nil || h.seen&which != 0 || h.regular || h.trailer || !validStreamValue(value) {
		h.bad = true
		return
	}
	h.seen |= which
	*at = value
}

// beginFields writes the request line when the pseudo-header fields are over.
func (h *h2Head) beginFields() {
	h.regular = true
	needed := uint8(pseudoMethod | pseudoScheme | pseudoPath)
	target := h.path
	switch {
	case h.method == "CONNECT":
		needed, target = pseudoMethod|pseudoAuthority, h.authority // RFC 9113 §8.5
		h.bad = h.seen&(pseudoScheme|pseudoPath) != 0
	case h.scheme != "http" && h.scheme != "https":
		h.bad = true
	case !isVisible(target) || target[0] != '/' && (target != "*" || h.method != "OPTIONS"):
		h.bad = true
	}
	h.bad = h.bad || h.seen&needed != needed || !isVisible(target) || !isVisible(h.method) ||
		h.authority != "" && !isVisible(h.authority) || strings.Contains(h.authority, "@")
	if h.bad {
		return
	}
	h.add(h.method)
	h.add(" ")
	h.add(target)
	h.add(" HTTP/1.1\r\n")
	if h.authority != "" {
		h.addLine("Host", h.authority)
	}
}

func (h *h2Head) takeField(name, value string) {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		h.bad = true // RFC 9113 §8.2.2
		return
	case "te":
		if value != "trailers" {
			h.bad = true
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
	case "cookie":
		if !h.trailer {
			h.takeCookie(value)
			return
		}
	}
	h.addLine(name, value)
}

// takeCookie joins Cookie fields (RFC 9113 §8.2.3).
func (h *h2Head) takeCookie(value string) {
	if len(h.cookies) > h.limit {
		return // The head is too large already.
	}
	if len(h.cookies) > 0 {
		h.cookies = append(h.cookies, "; "...)
	}
	h.cookies = append(h.cookies, value[:min(len(value), h.limit+1)]...)
}

// takeHost takes a Host field, which must not differ from :authority (RFC 9113 §8.3.1) and stands for it where that is
// missing.
func (h *h2Head) takeHost(value string) {
	switch {
	case h.trailer || h.host != "":
		h.bad = true
	case h.authority != "":
		h.bad = value != h.authority
	default:
		h.addLine("Host", value)
	}
	h.host = value
}

// end completes a head. body says that a body follows. It reports whether the request is well-formed.
func (h *h2Head) end(body bool) bool {
	if !h.regular && !h.trailer && !h.bad {
		h.beginFields()
	}
	if h.bad || h.trailer {
		return !h.bad
	}
	if len(h.cookies) > 0 {
		h.add("Cookie: ")
		h.dst = append(append(h.dst, h.cookies...), "\r\n"...)
	}
	if body && !h.sized {
		h.add("Transfer-Encoding: chunked\r\n")
	}
	h.add("\r\n")
	return body || h.length <= 0 // RFC 9113 §8.1.1
}

// add appends to the head. What exceeds the limit is judged by the fact that it does.
func (h *h2Head) add(s string) {
	if len(h.dst) <= h.limit {
		h.dst = append(h.dst, s[:min(len(s), h.limit+1)]...)
	}
}

// addLine appends a field line. Names get the case that HTTP/1.1 has by custom.
func (h *h2Head) addLine(name, value string) {
	if len(h.dst)+len(name) > h.limit {
		h.add(name)
		return
	}
	h.dst = appendH3Line(h.dst, name, value[:min(len(value), h.limit+1)])
}

// validStreamValue reports whether a value keeps to its line and has no white space around it (RFC 9113 §8.2.1,
// RFC 9114 §10.3).
func validStreamValue(v string) bool {
	if !keepsToLine(v) {
		return false
	}
	if n := len(v); n > 0 {
		first, last := v[0], v[n-1]
		return first != ' ' && first != '\t' && last != ' ' && last != '\t'
	}
	return true
}
