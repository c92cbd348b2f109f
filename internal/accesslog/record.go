package accesslog

import (
	"net/netip"
	"time"
)

// Record is what one finished request leaves in the log. Byte slices are what the client sent,
// strings are ours; all may hold any bytes, as they are escaped. Log copies what it needs, so a
// record and its slices may be used again as soon as Log has returned.
type Record struct {
	Peer netip.Addr // the client; the zero value is written as "-"
	Time time.Time  // end of the request

	Method       []byte
	Target       []byte // request target as sent, query included
	Proto        string // "HTTP/1.1"
	Host         []byte // as requested
	Referer      []byte
	UserAgent    []byte
	RequestID    []byte
	ForwardedFor []byte // X-Forwarded-For as the client sent it

	VHost   string // identifier of the frontend; empty is written as "-", and 1 KiB at most
	Backend string // URL of the last attempt, 1 KiB at most; empty if there was none
	Cause   string // X-Sluice-Error of an answer of our own

	Status      int
	Bytes       int64         // body bytes sent to the client
	Total       time.Duration // from the first byte of the request to the last of the answer
	BackendTime time.Duration // the part of Total spent with backends
	Attempts    int           // requests sent or tried to backends
	TLS         bool          // the client's side was encrypted
}
