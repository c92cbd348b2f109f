package proxy

// span is a half-open range of bytes in a head. Offsets rather than slices, so that a head survives when its buffer
// grows.
type span struct{ start, end int32 }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }
func (s span) empty() bool        { return s.start == s.end }

// lower maps ASCII letters to lower case and `_` to `-`: two field names that differ only in these are the same name to
// the CGI-style environments behind us, which is why look-alikes are dropped.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c) + 'a' - 'A'
	}
	t['_'] = '-'
	return t
}()

// token marks the bytes of a token (RFC 9110 §5.6.2).
var token = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !token[c] {
			return false
		}
	}
	return len(b) > 0
}

// equalFold reports whether b, lower-cased, is s; s is in lower case. `_` in b counts as itself.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if c != s[i] && (c == '_' || lower[c] != s[i]) {
			return false
		}
	}
	return true
}

// trimOWS cuts optional white space (RFC 9110 §5.6.3) off both ends.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nextElement cuts the first element off a comma-separated list (RFC 9110 §5.6.1) and trims it. Empty elements are
// returned as such. more is false once the list is used up. Quoted commas do not occur in the lists that sluice reads.
func nextElement(list []byte) (element, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trimOWS(list[:i]), list[i+1:], true
		}
	}
	return trimOWS(list), nil, false
}

// hasElement reports whether a comma-separated list holds name, in lower case, whatever the case in the list.
func hasElement(list []byte, name string) bool {
	for more := true; more; {
		var e []byte
		if e, list, more = nextElement(list); equalFold(e, name) {
			return true
		}
	}
	return false
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// hasControl reports whether b holds a byte below 0x20 or DEL, HTAB included.
//
// Fast path: eight bytes at a time; (x - 0x20…) & ^x has the high bit set in every byte below 0x20 (and, through
// borrows, possibly in a byte above such a one, which changes nothing), and (x ^ 0x7f…) - 1 finds DEL in the same way.
func hasControl(b []byte) bool {
	for len(b) >= 8 {
		x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		del := x ^ (0x7f * ones)
		if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// validValue reports whether b may be a field value: no control byte but HTAB (RFC 9110 §5.5).
func validValue(b []byte) bool {
	if !hasControl(b) {
		return true
	}
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
