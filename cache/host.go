package cache

import (
	"bytes"
	"net/netip"
)

// maxHostBytes is the longest name in the DNS (RFC 1035 §2.3.4), without the final dot.
const maxHostBytes = 253

// AppendHost appends the lookup form of a Host header's value to dst and returns the extended
// slice: lower case, port and one trailing dot cut, an IPv6 literal kept with its brackets. raw is
// neither kept nor changed. The result holds only [a-z0-9._-], or is "[v6]", so it can neither
// forge a key of the store nor a message: "*", ";", "%" and control bytes never pass.
//
// It returns ErrNoHost for an empty value and ErrBadHost for anything that is not a name or an
// address; dst is then returned unchanged. It does not allocate if dst has room.
func AppendHost(dst, raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return dst, ErrNoHost
	}
	if raw[0] == '[' {
		return appendIPv6(dst, raw)
	}
	name := raw
	if i := bytes.IndexByte(raw, ':'); i >= 0 {
		if !validPort(raw[i+1:]) {
			return dst, ErrBadHost
		}
		name = raw[:i]
	}
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if len(name) == 0 || len(name) > maxHostBytes {
		return dst, ErrBadHost
	}
	return appendName(dst, name)
}

// appendName appends a host name in lower case; it refuses empty labels and foreign bytes.
func appendName(dst, name []byte) ([]byte, error) {
	start := len(dst)
	afterDot := true
	for _, b := range name {
		switch {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '-', b == '_':
			afterDot = false
		case b >= 'A' && b <= 'Z':
			b += 'a' - 'A'
			afterDot = false
		case b == '.' && !afterDot:
			afterDot = true
		default:
			return dst[:start], ErrBadHost
		}
		dst = append(dst, b)
	}
	if afterDot {
		return dst[:start], ErrBadHost
	}
	return dst, nil
}

// appendIPv6 handles "[v6]" and "[v6]:port". A zone is refused: it means nothing beyond one
// machine.
func appendIPv6(dst, raw []byte) ([]byte, error) {
	end := bytes.IndexByte(raw, ']')
	if end < 0 {
		return dst, ErrBadHost
	}
	if rest := raw[end+1:]; len(rest) > 0 && (rest[0] != ':' || !validPort(rest[1:])) {
		return dst, ErrBadHost
	}
	literal := raw[1:end]
	if len(literal) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") || !isIPv6(literal) {
		return dst, ErrBadHost
	}
	dst = append(dst, '[')
	for _, b := range literal {
		if b >= 'A' && b <= 'F' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return append(dst, ']'), nil
}

// isIPv6 tells whether literal is an IPv6 address without a zone.
func isIPv6(literal []byte) bool {
	if bytes.IndexByte(literal, '%') >= 0 {
		return false
	}
	a, err := netip.ParseAddr(string(literal))
	return err == nil && a.Is6()
}

// validPort tells whether b is a decimal number from 1 to 65535.
func validPort(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	n := 0
	for _, d := range b {
		if d < '0' || d > '9' {
			return false
		}
		n = n*10 + int(d-'0')
	}
	return n >= 1 && n <= 65535
}
