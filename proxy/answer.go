package proxy

import (
	"strconv"
	"sync/atomic"
	"time"
)

// ownAnswer is an answer that sluice makes itself: an error page, the ping, a redirect, or the answer to OPTIONS with
// Max-Forwards 0.
type ownAnswer struct {
	status      int
	contentType string
	body        []byte
	cause       string // X-Sluice-Error; "" on answers that are no errors
	message     string // X-Debug-Error, if the client may see it
	allow       bool   // list the methods that are passed
	retryAfter  int    // seconds; 0 = no field
	location    []byte // of a redirect
}

// reasons are the reason phrases of our own answers.
var reasons = map[int]string{
	200: "OK", 301: "Moved Permanently", 308: "Permanent Redirect", 400: "Bad Request",
	405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large",
	414: "URI Too Long", 421: "Misdirected Request", 431: "Request Header Fields Too Large",
	500: "Internal Server Error", 502: "Bad Gateway",
	503: "Service Unavailable", 504: "Gateway Timeout", 508: "Loop Detected",
}

// allowedMethods is the Allow field of a 405: the methods of RFC 9110 that are passed, and PATCH.
const allowedMethods = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"

// appendHead appends the head of a for a client that keeps its connection or not.
func (a *ownAnswer) appendHead(dst []byte, x *exchange) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(a.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reasons[a.status]...)
	dst = append(dst, "\r\nDate: "...)
	dst = append(dst, httpDate()...)
	if a.contentType != "" {
		dst = append(dst, "\r\nContent-Type: "...)
		dst = append(dst, a.contentType...)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(a.body)), 10)
	if a.cause != "" {
		// Hipache: lib/worker.js, errors must not be cached.
		dst = append(dst, "\r\nCache-Control: no-cache\r\nPragma: no-cache\r\nExpires: -1\r\nX-Sluice-Error: "...)
		dst = append(dst, a.cause...)
	}
	if a.allow {
		dst = append(dst, "\r\nAllow: "+allowedMethods...)
	}
	if a.retryAfter > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64(a.retryAfter), 10)
	}
	if a.location != nil {
		dst = append(append(dst, "\r\nLocation: "...), a.location...)
	}
	dst = append(dst, "\r\n"...)
	dst = x.appendAltSvc(x.appendHSTS(dst, nil), nil)
	if x.debug && a.message != "" {
		dst = x.appendErrorDebug(dst, a.message)
	}
	return dst
}

// dateText is the Date field of one second.
type dateText struct {
	unix int64
	text string
}

var lastDate atomic.Pointer[dateText]

// httpDate returns the present time as a Date field's value (RFC 9110 §5.6.7), made once a second.
func httpDate() string {
	t := time.Now()
	if d := lastDate.Load(); d != nil && d.unix == t.Unix() {
		return d.text
	}
	d := &dateText{t.Unix(), t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	lastDate.Store(d)
	return d.text
}

// errorAnswer makes the answer for the error that ended x (Hipache: lib/worker.js, error pages).
func (s *Server) errorAnswer(x *exchange) ownAnswer {
	row := &outcomes[x.err.Kind]
	a := ownAnswer{
		status:     s.statusOf(x),
		cause:      row.label,
		message:    x.errorMessage(),
		allow:      row.status == 405,
		retryAfter: x.retryAfter,
	}
	a.body, a.contentType = s.pages.Page(a.status)
	if len(a.body) == 0 {
		a.body, a.contentType = []byte(a.message), "text/plain"
	}
	return a
}

// statusOf returns the status of the error that ended x. planb answers 503 where Hipache answers 502 because every
// backend is dead.
func (s *Server) statusOf(x *exchange) int {
	if x.err.Kind == KindNoBackend && x.cfg.Compat == CompatPlanb {
		return 503
	}
	return x.err.Kind.Status()
}

// errorMessage returns the text of X-Debug-Error.
func (x *exchange) errorMessage() string {
	switch {
	case x.message != "":
		return x.message
	case x.err.Kind == KindUnknownHost && x.cfg.Compat == CompatPlanb:
		return "no such route"
	}
	return outcomes[x.err.Kind].message
}
