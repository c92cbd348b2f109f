package proxy

import (
	"bytes"
	"slices"
)

// field is one header field of a head.
type field struct {
	name, value span // value without surrounding white space
	line        span // the whole line with its line end, to be copied as it came
	kind        fieldKind
	irregular   bool // the line can't be copied: bare LF, white space before the colon, or unfolded
}

// head is the parsed start line and fields of one message. It holds offsets into the bytes that were scanned; b, set
// when the head is complete, aliases the connection's buffer and is valid until the message is finished.
type head struct {
	b      []byte
	start  span // start line without its line end
	fields []field
	pos    int32 // bytes scanned so far
	empty  int8  // empty lines skipped before the start line
}

// headRules says how strictly a head is read, and its limits.
type headRules struct {
	maxBytes  int  // Limit: the head with all line ends
	maxFields int  // Limit
	lenient   bool // backends: bare LF, folded lines and white space before a colon are mended, not refused
	section   bool // a trailer section: fields without a start line
}

// maxEmptyLines is how many empty lines may precede a request line (RFC 9112 §2.2 asks for at least one).
const maxEmptyLines = 2

// reset forgets the head, keeping its memory.
func (h *head) reset() {
	h.b, h.start, h.fields, h.pos, h.empty = nil, span{}, h.fields[:0], 0, 0
}

// scan reads the lines of b that it has not read yet; b starts where the head starts and only grows from call to call.
// It returns the length of the head once it is complete, 0 while bytes are missing, or the kind of error that ends it.
func (h *head) scan(b []byte, rules *headRules) (n int, bad Kind) {
	for {
		nl := bytes.IndexByte(b[h.pos:], '\n')
		if nl < 0 {
			return 0, h.unfinished(b, rules)
		}
		begin, next := h.pos, h.pos+int32(nl)+1
		if int(next) > rules.maxBytes {
			return 0, h.tooLarge()
		}
		end, crlf := next-1, false
		if end > begin && b[end-1] == '\r' {
			end, crlf = end-1, true
		}
		if !crlf && !rules.lenient {
			return 0, KindBadRequest
		}
		h.pos = next
		switch {
		case end > begin && h.start.empty() && !rules.section:
			h.start = span{begin, end}
			if !rules.lenient && !plausible(b[begin:end]) {
				return 0, KindBadRequest
			}
			if line := b[begin:end]; hasControl(line) && (!rules.lenient || !validValue(line)) {
				return 0, KindBadRequest
			}
		case end > begin:
			if bad = h.addLine(b, span{begin, end}, next, crlf, rules); bad != 0 {
				return 0, bad
			}
		case h.start.empty() && !rules.section:
			if h.empty++; h.empty > maxEmptyLines {
				return 0, KindBadRequest
			}
		default:
			h.b = b[:next]
			return int(next), 0
		}
	}
}

// plausible reports whether a request line begins and ends like one: HTTP/0.9 and other protocols have no head to wait
// for.
func plausible(line []byte) bool {
	return token[line[0]] && bytes.HasPrefix(line[bytes.LastIndexByte(line, ' ')+1:], []byte("HTTP/"))
}

// unfinished judges the bytes after the last line end: what can't become a head is refused without waiting for more.
func (h *head) unfinished(b []byte, rules *headRules) Kind {
	if len(b) >= rules.maxBytes {
		return h.tooLarge()
	}
	if h.start.empty() && !rules.lenient && int(h.pos) < len(b) {
		// A TLS handshake or other binary on a plain port has no line end to wait for.
		if c := b[h.pos]; !token[c] && c != '\r' {
			return KindBadRequest
		}
	}
	return 0
}

func (h *head) tooLarge() Kind {
	if h.start.empty() {
		return KindTargetTooLong
	}
	return KindHeadTooLarge
}

// addLine reads one field line (RFC 9112 §5).
func (h *head) addLine(b []byte, s span, next int32, crlf bool, rules *headRules) Kind {
	line := s.of(b)
	if line[0] == ' ' || line[0] == '\t' {
		return h.fold(b, s, next, rules)
	}
	if len(h.fields) >= rules.maxFields {
		return KindHeadTooLarge
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return KindBadRequest
	}
	name, irregular := line[:colon], !crlf
	if rules.lenient {
		trimmed := bytes.TrimRight(name, " \t")
		irregular = irregular || len(trimmed) != len(name)
		name = trimmed
	}
	if !isToken(name) {
		return KindBadRequest
	}
	f := field{
		name:      span{s.start, s.start + int32(len(name))},
		value:     trimSpan(b, span{s.start + int32(colon) + 1, s.end}),
		line:      span{s.start, next},
		kind:      classify(name),
		irregular: irregular,
	}
	if !rules.allows(f.value.of(b)) {
		return KindBadRequest
	}
	h.fields = append(h.fields, f)
	return 0
}

// fold joins a continuation line to the field before it. Requests that fold are refused: nobody sends them but to be
// read in two ways. In answers the line break becomes white space (RFC 9112 §5.2), in place.
func (h *head) fold(b []byte, s span, next int32, rules *headRules) Kind {
	if !rules.lenient || len(h.fields) == 0 || !rules.allows(s.of(b)) {
		return KindBadRequest
	}
	f := &h.fields[len(h.fields)-1]
	// The line break before this line; what lies before that is blank already.
	for i := max(f.value.end, f.line.end-2); i < s.start; i++ {
		b[i] = ' '
	}
	if more := trimSpan(b, s); !more.empty() {
		f.value = trimSpan(b, span{f.value.start, more.end})
	}
	f.line.end, f.irregular = next, true
	return 0
}

// allows reports whether a field value may pass. Backends may send control bytes that do no harm, never CR or NUL.
func (r *headRules) allows(value []byte) bool {
	if r.lenient {
		return bytes.IndexByte(value, '\r') < 0 && bytes.IndexByte(value, 0) < 0
	}
	return validValue(value)
}

func trimSpan(b []byte, s span) span {
	for s.start < s.end && (b[s.start] == ' ' || b[s.start] == '\t') {
		s.start++
	}
	for s.start < s.end && (b[s.end-1] == ' ' || b[s.end-1] == '\t') {
		s.end--
	}
	return s
}

// value returns the value of the first field of a kind, nil if there is none. It aliases the buffer.
func (h *head) value(kind fieldKind) []byte {
	for i := range h.fields {
		if h.fields[i].kind == kind {
			return h.fields[i].value.of(h.b)
		}
	}
	return nil
}

// has reports whether there is a field of a kind.
func (h *head) has(kind fieldKind) bool {
	for i := range h.fields {
		if h.fields[i].kind == kind {
			return true
		}
	}
	return false
}

// lists reports whether any Connection field names the option, in lower case.
func (h *head) lists(option string) bool {
	for i := range h.fields {
		f := &h.fields[i]
		if f.kind == fieldConnection && hasElement(f.value.of(h.b), option) {
			return true
		}
	}
	return false
}

// listsField reports whether any Connection field names the given field.
func (h *head) listsField(name []byte) bool {
	for i := range h.fields {
		f := &h.fields[i]
		if f.kind != fieldConnection {
			continue
		}
		list, more := f.value.of(h.b), true
		for more {
			var e []byte
			if e, list, more = nextElement(list); len(e) == len(name) && bytes.EqualFold(e, name) {
				return true
			}
		}
	}
	return false
}

// dropListed takes the fields that a Connection field of m names off the trailer section h (RFC 9110 §7.6.1).
func (h *head) dropListed(m *head) {
	h.fields = slices.DeleteFunc(h.fields, func(f field) bool { return m.listsField(f.name.of(h.b)) })
}

// appendField copies field f to dst: as it came if the line is regular, rebuilt otherwise.
func (h *head) appendField(dst []byte, f *field) []byte {
	if !f.irregular {
		return append(dst, f.line.of(h.b)...)
	}
	dst = append(dst, f.name.of(h.b)...)
	dst = append(dst, ": "...)
	dst = append(dst, f.value.of(h.b)...)
	return append(dst, "\r\n"...)
}
