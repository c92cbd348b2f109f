package accesslog

import (
	"net/netip"
	"strconv"
	"time"
)

// layout is one of the line formats.
type layout uint8

const (
	layoutHipache layout = iota
	layoutPlanb
	layoutJSON
)

// appendLine appends r as one line with its line feed.
func appendLine(dst []byte, l layout, at *second, r *Record) []byte {
	if l == layoutJSON {
		return appendJSON(dst, at, r)
	}
	return appendHipache(dst, l == layoutPlanb, at, r)
}

// appendHipache appends a line in Hipache's format, with planb's two fields more if planb is set:
//
//	::1 - - [16/Feb/2014:00:43:10 +0000] "GET / HTTP/1.1" 200 3236 "" "curl/7.30.0" "mywebsite" 0.011 0.009
//
// Hipache: lib/accesslogger.js. Requests that never reached a backend, which it skips, have the
// identifier "-".
func appendHipache(dst []byte, planb bool, at *second, r *Record) []byte {
	dst = appendMappedPeer(dst, r.Peer)
	dst = append(dst, " - - ["...)
	dst = append(dst, at.clf...)
	dst = append(dst, ` +0000] "`...)
	dst = appendKnown(dst, r.Method)
	dst = append(dst, ' ')
	dst = appendKnown(dst, r.Target)
	dst = append(dst, ' ')
	dst = appendKnown(dst, r.Proto)
	dst = append(dst, '"', ' ')
	dst = appendInt(dst, int64(r.Status))
	dst = append(dst, ' ')
	dst = appendInt(dst, r.Bytes)
	dst = append(dst, ' ', '"')
	dst = appendEscaped(dst, r.Referer)
	dst = append(dst, `" "`...)
	dst = appendEscaped(dst, r.UserAgent)
	dst = append(dst, `" "`...)
	dst = appendKnown(dst, cut(r.VHost))
	if planb {
		dst = append(dst, `" "`...)
		dst = appendEscaped(dst, r.RequestID)
		dst = append(dst, `" "`...)
		dst = appendEscaped(dst, r.ForwardedFor)
	}
	dst = append(dst, '"', ' ')
	dst = appendSeconds(dst, r.Total)
	dst = append(dst, ' ')
	dst = appendSeconds(dst, r.BackendTime)
	return append(dst, '\n')
}

// appendJSON appends r as a JSON object. Fields that most requests lack are left out when empty.
func appendJSON(dst []byte, at *second, r *Record) []byte {
	dst = append(dst, `{"time":"`...)
	dst = append(dst, at.iso...)
	dst = appendMillis(append(dst, '.'), int64(r.Time.Nanosecond()/int(time.Millisecond)))
	dst = append(dst, `Z","peer":`...)
	dst = appendPeer(append(dst, '"'), r.Peer)
	dst = appendJSONString(append(dst, `","method":`...), r.Method)
	dst = appendJSONString(append(dst, `,"target":`...), r.Target)
	dst = appendJSONString(append(dst, `,"proto":`...), r.Proto)
	dst = appendJSONString(append(dst, `,"host":`...), r.Host)
	dst = appendJSONString(append(dst, `,"vhost":`...), cut(r.VHost))
	dst = appendInt(append(dst, `,"status":`...), int64(r.Status))
	dst = appendInt(append(dst, `,"bytes":`...), r.Bytes)
	dst = appendSeconds(append(dst, `,"total":`...), r.Total)
	dst = appendSeconds(append(dst, `,"backendTime":`...), r.BackendTime)
	dst = appendInt(append(dst, `,"attempts":`...), int64(r.Attempts))
	dst = strconv.AppendBool(append(dst, `,"tls":`...), r.TLS)
	dst = appendMember(dst, `,"backend":`, cut(r.Backend))
	dst = appendMember(dst, `,"cause":`, r.Cause)
	dst = appendMember(dst, `,"referer":`, r.Referer)
	dst = appendMember(dst, `,"userAgent":`, r.UserAgent)
	dst = appendMember(dst, `,"requestId":`, r.RequestID)
	dst = appendMember(dst, `,"forwardedFor":`, r.ForwardedFor)
	return append(dst, '}', '\n')
}

// cut shortens what stands in the store, where nothing else bounds it: a line with all of it would
// be too long to be written.
func cut(s string) string { return s[:min(len(s), maxStoredBytes)] }

// appendMember appends a JSON member whose key is written with comma and colon, or nothing if the
// value is empty.
func appendMember[T text](dst []byte, key string, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	return appendJSONString(append(dst, key...), value)
}

// appendKnown appends s escaped, or "-" when there is none, so that a reader that splits the line
// at blanks finds every field.
func appendKnown[T text](dst []byte, s T) []byte {
	if len(s) == 0 {
		return append(dst, '-')
	}
	return appendEscaped(dst, s)
}

// appendMappedPeer appends the address as node shows it on a dual-stack socket: IPv4 as
// ::ffff:192.0.2.1.
func appendMappedPeer(dst []byte, peer netip.Addr) []byte {
	if peer = peer.Unmap(); peer.Is4() {
		dst = append(dst, "::ffff:"...)
	}
	return appendPeer(dst, peer)
}

// appendPeer appends the address, IPv4 plain, or "-" if it is unknown.
func appendPeer(dst []byte, peer netip.Addr) []byte {
	if !peer.IsValid() {
		return append(dst, '-')
	}
	return peer.Unmap().AppendTo(dst)
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
