package proxy

import (
	"bytes"
	"hash/maphash"

	"golang.org/x/net/http2/hpack"
)

// fieldTable compresses the field lines of answers (HPACK, RFC 7541). Lines that come again and again take a byte or
// two and no allocation; the others are not kept, so that values that are never the same twice push nothing out. Not
// for concurrent use.
type fieldTable struct {
	entries []tableEntry // the dynamic table, oldest first
	size    int          // of the entries, as the RFC counts it
	max     int          // what size may be at most
	least   int          // the smallest max since the last block, if resized
	resized bool         // the peer has to be told of max

	seen [64]uint32 // hashes of lines that came lately: what comes a second time is kept
}

type tableEntry struct {
	hash uint64
	line string // as the answer had it
	size int
}

const (
	maxFieldTable   = 4 << 10 // Limit: bytes of the table, whatever the peer allows
	maxTableLine    = 512     // Limit: longer lines are not kept
	staticEntries   = 61
	entryOverhead   = 32 // RFC 7541 §4.1
	statusName      = 8  // index of :status in the static table
	literalIndexed  = 0x40
	literalPlain    = 0x00
	literalNever    = 0x10
	setCookieStatic = 55
)

// staticNames holds the static table's names of fields (RFC 7541 appendix A).
var staticNames = map[string]uint64{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19,
	"access-control-allow-origin": 20, "age": 21, "allow": 22, "authorization": 23, "cache-control": 24,
	"content-disposition": 25, "content-encoding": 26, "content-language": 27, "content-length": 28,
	"content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32, "date": 33, "etag": 34,
	"expect": 35, "expires": 36, "from": 37, "host": 38, "if-match": 39, "if-modified-since": 40,
	"if-none-match": 41, "if-range": 42, "if-unmodified-since": 43, "last-modified": 44, "link": 45,
	"location": 46, "max-forwards": 47, "proxy-authenticate": 48, "proxy-authorization": 49, "range": 50,
	"referer": 51, "refresh": 52, "retry-after": 53, "server": 54, "set-cookie": setCookieStatic,
	"strict-transport-security": 56, "transfer-encoding": 57, "user-agent": 58, "vary": 59, "via": 60,
	"www-authenticate": 61,
}

// staticStatus holds the statuses that have an entry of their own.
var staticStatus = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

// lineSeed makes the hashes of lines unpredictable.
var lineSeed = maphash.MakeSeed()

// init gives the table the size that a peer has before it says anything.
func (t *fieldTable) init() { *t = fieldTable{max: maxFieldTable} }

// resize takes up the size that the peer allows. It is told in the next block (RFC 7541 §4.2).
func (t *fieldTable) resize(allowed uint32) {
	size := int(min(allowed, maxFieldTable))
	if size == t.max && !t.resized {
		return
	}
	if !t.resized {
		t.least, t.resized = size, true
	}
	t.least = min(t.least, size)
	t.max = size
	t.evict()
}

// evict drops the oldest entries until the size fits.
func (t *fieldTable) evict() {
	n := 0
	for t.size > t.max {
		t.size -= t.entries[n].size
		n++
	}
	if n > 0 {
		rest := copy(t.entries, t.entries[n:])
		clear(t.entries[rest:])
		t.entries = t.entries[:rest]
	}
}

// appendStatus begins the block of an answer's head.
func (t *fieldTable) appendStatus(dst []byte, status int) []byte {
	dst = t.appendResize(dst)
	if i, ok := staticStatus[status]; ok {
		return append(dst, 0x80|i)
	}
	digits := [3]byte{byte('0' + status/100%10), byte('0' + status/10%10), byte('0' + status%10)}
	return append(append(dst, literalPlain|statusName, byte(len(digits))), digits[:]...)
}

func (t *fieldTable) appendResize(dst []byte) []byte {
	if !t.resized {
		return dst
	}
	t.resized = false
	if t.least < t.max { // It must hear of both. Some peers take a second size only if the first one left nothing.
		clear(t.entries)
		t.entries, t.size = t.entries[:0], 0
		dst = append(dst, 0x20)
	}
	return appendInteger(dst, 0x20, 5, uint64(t.max))
}

// appendLines appends field lines to a block. Values that HTTP/2 forbids are left out (RFC 9113 §8.2.1).
func (t *fieldTable) appendLines(dst, lines []byte) []byte {
	for len(lines) > 0 {
		var line []byte
		line, lines = cutLine(lines)
		dst = t.appendLine(dst, line)
	}
	return dst
}

// appendLine appends one field line without its end.
func (t *fieldTable) appendLine(dst, line []byte) []byte {
	hash := maphash.Bytes(lineSeed, line)
	for i := len(t.entries) - 1; i >= 0; i-- {
		if e := &t.entries[i]; e.hash == hash && e.line == string(line) {
			return appendInteger(dst, 0x80, 7, uint64(staticEntries+len(t.entries)-i)) // Fast path.
		}
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return dst
	}
	value := trimOWS(line[colon+1:])
	if !validValue(value) {
		return dst
	}
	var buf [maxTableLine]byte
	name := appendLower(buf[:0], line[:colon])
	index := staticNames[string(name)]
	how, bits := byte(literalPlain), 4
	switch size := len(name) + len(value) + entryOverhead; {
	case index == setCookieStatic:
		how = literalNever // RFC 7541 §7.1.3
	case len(line) <= maxTableLine && size <= t.max && t.again(hash):
		how, bits = literalIndexed, 6
		t.size += size
		t.entries = append(t.entries, tableEntry{hash, string(line), size})
		t.evict()
	}
	dst = appendInteger(dst, how, bits, index)
	if index == 0 {
		dst = appendHuffman(dst, name)
	}
	return appendHuffman(dst, value)
}

// appendPair appends one field.
func (t *fieldTable) appendPair(dst, name, value []byte) []byte {
	var buf [maxTableLine]byte
	return t.appendLine(dst, append(append(append(buf[:0], name...), ": "...), value...))
}

// again reports whether a line with that hash came before, as far as that is remembered.
func (t *fieldTable) again(hash uint64) bool {
	slot := &t.seen[hash%uint64(len(t.seen))]
	mark := uint32(hash>>32) | 1
	if *slot == mark {
		return true
	}
	*slot = mark
	return false
}

// appendLower appends a field name in lower case.
func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// appendInteger appends n behind the flags of its first byte, of which bits are n's (RFC 7541 §5.1).
func appendInteger(dst []byte, flags byte, bits int, n uint64) []byte {
	limit := uint64(1)<<bits - 1
	if n < limit {
		return append(dst, flags|byte(n))
	}
	dst = append(dst, flags|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendHuffman appends a string, compressed if that makes it shorter.
func appendHuffman(dst, p []byte) []byte {
	s := text(p)
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(p)) {
		return hpack.AppendHuffmanString(appendInteger(dst, 0x80, 7, n), s)
	}
	return append(appendInteger(dst, 0, 7, uint64(len(p))), p...)
}
