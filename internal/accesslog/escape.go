package accesslog

import (
	"math/bits"
	"unicode"
	"unicode/utf8"
)

// text is what a field may be made of: the client's bytes or our own strings.
type text interface{ ~string | ~[]byte }

const hexDigits = "0123456789abcdef"

// appendEscaped appends s to a quoted field of Hipache's format. Quotes and backslashes get a
// backslash; control characters (C0, DEL, C1) and bytes that are no UTF-8 become \x0a. What comes
// out cannot end the field or the line and is safe to show on a terminal.
func appendEscaped[T text](dst []byte, s T) []byte {
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return dst
		}
		s = s[n:]
		size, printable := leadingRune(s)
		switch {
		case printable:
			dst = append(dst, s[:size]...)
		case s[0] == '"' || s[0] == '\\':
			dst = append(dst, '\\', s[0])
		default:
			for i := range size {
				dst = append(dst, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
			}
		}
		s = s[size:]
	}
}

// appendJSONString appends s as a JSON string with its quotes. Bytes that are no UTF-8 become
// U+FFFD: JSON has no way to say them.
func appendJSONString[T text](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		s = s[n:]
		size, printable := leadingRune(s)
		switch {
		case printable:
			dst = append(dst, s[:size]...)
		case s[0] == '"' || s[0] == '\\':
			dst = append(dst, '\\', s[0])
		case size == 1 && s[0] >= utf8.RuneSelf:
			dst = append(dst, `\ufffd`...)
		default:
			// The last byte of a control character is its code point: C1 are the two bytes C2 80
			// to C2 9F.
			c := s[size-1]
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		s = s[size:]
	}
}

// leadingRune returns the length of the first character of s, 1 if it is no UTF-8, and whether it
// may stand in a line as it is. s must not be empty.
func leadingRune[T text](s T) (size int, printable bool) {
	var head [utf8.UTFMax]byte
	r, size := utf8.DecodeRune(head[:copy(head[:], s)])
	if r == utf8.RuneError && size <= 1 {
		return 1, false
	}
	return size, !unicode.IsControl(r) && r != '"' && r != '\\'
}

// Eight bytes that are all 0x01, and all 0x80.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainLen returns how many bytes at the start of s are printable ASCII other than quote and
// backslash. Nearly all fields are that from end to end, so it looks at eight bytes at a time.
func plainLen[T text](s T) int {
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		if special := specialBytes(load64(s, i)); special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// specialBytes sets the high bit of each byte of v that is not plain. Above the lowest such byte
// borrows and carries may set more, so only the lowest one counts.
func specialBytes(v uint64) uint64 {
	quote := v ^ ones*'"'
	backslash := v ^ ones*'\\'
	low := (v - ones*' ') | (quote - ones) | (backslash - ones)
	return (v | (v + ones) | low&^v) & highs // v+ones: DEL
}

// load64 reads eight bytes in little-endian order; the compiler makes one load of it.
func load64[T text](s T, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}
