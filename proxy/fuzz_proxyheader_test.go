package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// FuzzProxyHeader: a PROXY header is taken or refused as its specification says, however it comes in. What follows it is
// left, byte for byte; the client is whom it names, or the peer where it names nobody.
func FuzzProxyHeader(f *testing.F) {
	const sig2 = "\r\n\r\n\x00\r\nQUIT\n"
	for _, seed := range []string{
		"PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\nGET / HTTP/1.1\r\n\r\n",
		"PROXY TCP6 2001:db8::9 ::1 0 65535\r\n",
		"PROXY TCP6 ::ffff:203.0.113.9 ::1 5555 80\r\nrest",
		"PROXY TCP4 203.0.113.9 127.0.0.1 05555 80\r\n",
		"PROXY TCP4 203.0.113.09 127.0.0.1 5555 80\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 5555 80\r\n",
		"PROXY UNKNOWN\r\nrest", "PROXY UNKNOWN any\rthing\r\n", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "PROXY UNKNOWN\n", "PROXY\r\n", "PROXY TCP4 203.0.113.9\n", "POST / HTTP/1.1\r\n\r\n",
		version2Seed("\x21\x11", "\xcb\x00\x71\x09\x7f\x00\x00\x01\x15\xb3\x00\x50") + "GET /",
		version2Seed("\x21\x21", strings.Repeat("\x20\x01\x0d\xb8", 8)+"\x15\xb3\x00\x50") + "rest",
		version2Seed("\x21\x11", "\xcb\x00\x71\x09\x7f\x00\x00\x01\x15\xb3\x00\x50\x04\x00\x01x\x03\x00\x04abcd"),
		version2Seed("\x20\x00", "") + "rest", version2Seed("\x20\x11", "abc") + "rest",
		version2Seed("\x21\x12", "\xcb\x00\x71\x09\x7f\x00\x00\x01\x15\xb3\x00\x50"),
		version2Seed("\x21\x31", strings.Repeat("/unix\x00", 36)), version2Seed("\x21\x13", "\xcb\x00\x71\x09\x7f\x00\x00\x01\x15\xb3\x00\x50"),
		version2Seed("\x11\x11", "\xcb\x00\x71\x09\x7f\x00\x00\x01\x15\xb3\x00\x50"), sig2 + "\x21\x11\x10\x01", sig2[:7], "",
	} {
		for _, piece := range []byte{255, 1, 7} {
			f.Add([]byte(seed), piece)
		}
	}
	peer := netip.MustParseAddr("192.0.2.7")
	f.Fuzz(func(t *testing.T, raw []byte, piece byte) {
		c := &memoryConn{in: raw, piece: int(piece)}
		if piece == 255 {
			c.piece = len(raw)
		}
		a := &acceptedConn{Conn: c, link: newLink(c), addr: peer}
		err := a.readProxyHeader()
		n, client := specifiedHeader(raw)
		if (err == nil) != (n > 0) {
			t.Fatalf("%q in pieces of %d: got %v, want a header of %d bytes", raw, piece, err, n)
		}
		if err != nil {
			return
		}
		if client = client.Unmap(); !client.IsValid() {
			client = peer
		}
		if a.addr != client {
			t.Fatalf("%q: the client is %v, want %v", raw, a.addr, client)
		}
		if rest, err := io.ReadAll(a.link); err != nil || !bytes.Equal(rest, raw[n:]) {
			t.Fatalf("%q in pieces of %d: left %q, %v; want %q", raw, piece, rest, err, raw[n:])
		}
	})
}

// version2Seed is a header of version 2 with a given command, family and content.
func version2Seed(kind, content string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + kind + string(binary.BigEndian.AppendUint16(nil, uint16(len(content)))) + content
}

// specifiedHeader reads a header as its specification has it, written down a second time. It returns its length, 0 if it
// is none, and the client if it names one that came by TCP.
func specifiedHeader(raw []byte) (n int, client netip.Addr) {
	if bytes.HasPrefix(raw, []byte("PROXY")) {
		return specifiedLine(raw)
	}
	if len(raw) < 16 || string(raw[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || raw[12]&0xfe != 0x20 {
		return 0, client
	}
	least, known := map[byte]int{0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}[raw[13]]
	content := int(binary.BigEndian.Uint16(raw[14:]))
	local := raw[12] == 0x20
	if !known || content > 4096 || len(raw) < 16+content || !local && (raw[13] == 0 || content < least) {
		return 0, client
	}
	switch {
	case local:
	case raw[13] == 0x11:
		client = netip.AddrFrom4([4]byte(raw[16:]))
	case raw[13] == 0x21:
		client = netip.AddrFrom16([16]byte(raw[16:]))
	}
	return 16 + content, client
}

// Lines of version 1. A receiver ignores what follows UNKNOWN.
var (
	knownLine   = regexp.MustCompile(`^PROXY (TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n$`)
	unknownLine = regexp.MustCompile(`(?s)^PROXY UNKNOWN( .*)?\r\n$`)
)

func specifiedLine(raw []byte) (n int, client netip.Addr) {
	if n = bytes.IndexByte(raw, '\n') + 1; n > 107 {
		return 0, client
	}
	if unknownLine.Match(raw[:n]) {
		return n, client
	}
	m := knownLine.FindSubmatch(raw[:n])
	if m == nil {
		return 0, client
	}
	for _, port := range m[4:] {
		if len(port) == 5 && string(port) > "65535" {
			return 0, client
		}
	}
	src, err := netip.ParseAddr(string(m[2]))
	dst, worse := netip.ParseAddr(string(m[3]))
	if v4 := string(m[1]) == "TCP4"; err != nil || worse != nil || src.Is4() != v4 || dst.Is4() != v4 {
		return 0, client
	}
	return n, src
}
