package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"unsafe"
)

// maxForwardedFor is how many entries X-Forwarded-For may hold before the request is taken for a loop.
const maxForwardedFor = 20

// peerInfo is what the forwarding fields say of a client connection. It is made once per connection; a reload may
// change whether it is trusted.
type peerInfo struct {
	addr    netip.Addr
	text    []byte // the address: IPv4 plain, IPv6 without brackets or zone
	trusted bool   // its forwarding fields are believed
	proto   string // "http" or "https": how it reached us
	port    []byte // the listener's real port
	altSvc  string // the line that announces HTTP/3 on the same port, "" if it is not served there
	cert    []byte // field lines about the client's certificate, empty if it has none; nil if we did not ask

	// covers reports whether the connection may be used for a host; nil where one connection is one host's. It is safe
	// for concurrent use.
	covers func(host []byte) bool
}

func newPeerInfo(addr netip.Addr, trusted bool, proto string, port int) peerInfo {
	addr = addr.Unmap().WithZone("")
	return peerInfo{
		addr: addr, text: addr.AppendTo(nil), trusted: trusted,
		proto: proto, port: strconv.AppendInt(nil, int64(port), 10),
	}
}

// appendForwarded appends the fields that tell the application about its client (Hipache: lib/worker.js). A trusted
// peer's own values were copied with the other fields; only what is missing is set. X-Forwarded-For is always appended
// to, see appendRequestField.
func (x *exchange) appendForwarded(dst []byte) []byte {
	p, h := x.peer, &x.req.head
	var seen [fieldForwardedOther + 1]bool
	if p.trusted {
		for i := range h.fields {
			if k := h.fields[i].kind; k <= fieldForwardedOther {
				seen[k] = true
			}
		}
	}
	if !seen[fieldForwardedFor] {
		dst = appendField(dst, "X-Forwarded-For: ", p.text)
	}
	if !seen[fieldRealIP] {
		dst = appendField(dst, "X-Real-IP: ", p.text)
	}
	if !seen[fieldForwardedProto] {
		dst = append(append(append(dst, "X-Forwarded-Proto: "...), p.proto...), "\r\n"...)
	}
	if !seen[fieldForwardedProtocol] {
		dst = append(append(append(dst, "X-Forwarded-Protocol: "...), p.proto...), "\r\n"...)
	}
	if !seen[fieldForwardedPort] {
		dst = appendField(dst, "X-Forwarded-Port: ", p.port)
	}
	return append(dst, p.cert...)
}

func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// appendForwardedFor appends a trusted peer's X-Forwarded-For line; the last one gets the peer's own address.
func (x *exchange) appendForwardedFor(dst []byte, i int) []byte {
	h := &x.req.head
	dst = append(dst, "X-Forwarded-For: "...)
	dst = append(dst, h.fields[i].value.of(h.b)...)
	for j := i + 1; j < len(h.fields); j++ {
		if h.fields[j].kind == fieldForwardedFor {
			return append(dst, "\r\n"...)
		}
	}
	if !h.fields[i].value.empty() {
		dst = append(dst, ", "...)
	}
	dst = append(dst, x.peer.text...)
	return append(dst, "\r\n"...)
}

// loops reports whether X-Forwarded-For is longer than any honest way is.
func (r *request) loops() bool {
	n := 0
	for i := range r.fields {
		if f := &r.fields[i]; f.kind == fieldForwardedFor && !f.value.empty() {
			n += 1 + bytes.Count(f.value.of(r.b), []byte(","))
		}
	}
	return n > maxForwardedFor
}

// clientAddr returns the address that lookups are limited by: the peer's, or the one that a trusted peer speaks for.
func (x *exchange) clientAddr() netip.Addr {
	p := x.peer
	if !p.trusted {
		return p.addr
	}
	h := &x.req.head
	for i := len(h.fields) - 1; i >= 0; i-- {
		if h.fields[i].kind != fieldForwardedFor {
			continue
		}
		v := h.fields[i].value.of(h.b)
		v = trimOWS(v[bytes.LastIndexByte(v, ',')+1:])
		if a, ok := parseAddr(v); ok {
			return a
		}
		break
	}
	return p.addr
}

// parseAddr parses an address, with or without brackets and port.
func parseAddr(v []byte) (netip.Addr, bool) {
	if len(v) == 0 || len(v) > 64 {
		return netip.Addr{}, false
	}
	// Unsafe: netip keeps no reference to the text, and an error that would is dropped here.
	s := unsafe.String(&v[0], len(v))
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
