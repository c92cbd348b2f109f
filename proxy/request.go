package proxy

import (
	"bytes"
	"math"

	"sluice/cache"
)

// framing says how the end of a body is found (RFC 9112 §6.3).
type framing uint8

const (
	framingNone    framing = iota // no body
	framingLength                 // Content-Length
	framingChunked                // Transfer-Encoding: chunked
	framingClose                  // until the connection ends; answers only
)

// request is the judged head of a request: everything that the rooms need to know of it. All slices alias the head.
type request struct {
	head
	method    []byte
	target    []byte // as it goes to the backend: origin-form, or *
	rawTarget []byte // as the client sent it, for the log
	authority []byte // the Host to route by and to send on: the target's in absolute-form, the field's otherwise
	path      []byte // target up to `?`

	framing       framing
	contentLength int64

	major      uint8 // 2 or 3 if the head was made from a stream's, else 0
	http10     bool
	absolute   bool // target came in absolute-form
	keepAlive  bool // the client wants the connection to go on
	idempotent bool // may be sent twice (RFC 9110 §9.2.2), as far as sluice retries
	isHead     bool
	closes     bool // Connection says close
	elements   int  // of all Connection fields
	options    bool // Connection names fields of this message to be removed
	upgrade    []byte
	expects    bool // Expect: 100-continue, to be answered end to end
	teTrailers bool
	debug      bool
	maxForward int // Max-Forwards of an OPTIONS request, -1 if there is none
}

func (r *request) reset() {
	h := r.head
	h.reset()
	*r = request{head: h, maxForward: -1}
}

// judge reads the start line and the fields that matter after scan completed the head, and refuses what could be read
// in two ways.
func (r *request) judge() Kind {
	if bad := r.startLine(); bad != 0 {
		return bad
	}
	r.keepAlive = !r.http10
	if bad := r.readFields(); bad != 0 {
		return bad
	}
	if r.authority == nil && !r.absolute {
		return KindNoHost
	}
	if r.http10 && r.framing == framingChunked {
		return KindBadRequest
	}
	return 0
}

// startLine splits `METHOD SP target SP HTTP/d.d` (RFC 9112 §3).
func (r *request) startLine() Kind {
	line := r.start.of(r.b)
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !isToken(line[:sp]) {
		return KindBadRequest
	}
	r.method, line = line[:sp], line[sp+1:]
	sp = bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return KindBadRequest
	}
	r.rawTarget = line[:sp]
	if !r.version(line[sp+1:]) {
		return KindBadRequest
	}
	r.classifyMethod()
	return r.judgeTarget()
}

// version accepts HTTP/1.x. Later minor versions are 1.1 to us (RFC 9110 §2.5).
func (r *request) version(v []byte) bool {
	if len(v) != len("HTTP/1.1") || string(v[:7]) != "HTTP/1." || v[7] < '0' || v[7] > '9' {
		return false
	}
	r.http10 = v[7] == '0'
	return true
}

func (r *request) classifyMethod() {
	switch string(r.method) {
	case "GET", "OPTIONS", "PUT", "DELETE":
		r.idempotent = true
	case "HEAD":
		r.idempotent, r.isHead = true, true
	}
}

// judgeTarget accepts origin-form, absolute-form of http and https, and `*` for OPTIONS (RFC 9112 §3.2). The form is
// decided by the first byte, so that a path may hold `://`.
func (r *request) judgeTarget() Kind {
	t := r.rawTarget
	if bytes.IndexByte(t, '#') >= 0 {
		return KindBadRequest
	}
	switch {
	case t[0] == '/':
		r.target = t
	case len(t) == 1 && t[0] == '*' && string(r.method) == "OPTIONS":
		r.target = t
	case string(r.method) == "CONNECT":
		return KindMethodRefused
	default:
		if !r.absoluteForm(t) {
			return KindBadRequest
		}
	}
	if string(r.method) == "CONNECT" || string(r.method) == "TRACE" {
		return KindMethodRefused
	}
	r.path = r.target
	if q := bytes.IndexByte(r.path, '?'); q >= 0 {
		r.path = r.path[:q]
	}
	return 0
}

// absoluteForm splits scheme://authority/path. The authority replaces the Host field (RFC 9112 §3.2.2).
func (r *request) absoluteForm(t []byte) bool {
	colon := bytes.IndexByte(t, ':')
	if colon < 0 || !bytes.HasPrefix(t[colon:], []byte("://")) {
		return false
	}
	if scheme := t[:colon]; !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return false
	}
	rest := t[colon+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	r.absolute, r.authority, r.target = true, rest[:end], rest[end:]
	if len(r.target) == 0 && string(r.method) == "OPTIONS" {
		r.target = []byte("*")
	}
	return len(r.authority) > 0
}

// hostIsValid reports whether the Host field that an absolute-form target overrides could stand alone. A wrong one is
// refused all the same (RFC 9112 §3.2); an empty one is what a URI without an authority sends.
func (r *request) hostIsValid() bool {
	v := r.value(fieldHost)
	if len(v) == 0 {
		return true
	}
	_, err := cache.AppendHost(nil, v)
	return err == nil
}

// readFields takes from the fields what decides framing, host and connection.
func (r *request) readFields() Kind {
	var hosts, lengths, codings int
	for i := range r.fields {
		f := &r.fields[i]
		if f.kind == fieldPlain {
			continue
		}
		v := f.value.of(r.b)
		switch f.kind {
		case fieldHost:
			hosts++
			if !r.absolute {
				r.authority = v
			}
		case fieldContentLength:
			lengths++
			n, ok := parseLength(v)
			if !ok {
				return KindBadRequest
			}
			r.framing, r.contentLength = framingLength, n
		case fieldTransferEncoding:
			codings++
			if !equalFold(v, "chunked") {
				return KindBadRequest
			}
		default:
			r.readField(f.kind, v)
		}
	}
	if hosts > 1 || lengths > 1 || codings > 1 || lengths > 0 && codings > 0 || hosts == 0 && !r.http10 {
		if hosts == 0 {
			return KindNoHost
		}
		return KindBadRequest
	}
	if r.elements > maxConnectionOptions {
		return KindBadRequest
	}
	if codings > 0 {
		r.framing = framingChunked
	}
	if r.framing == framingLength && r.contentLength == 0 {
		r.framing = framingNone
	}
	r.settleUpgrade()
	return 0
}

func (r *request) readField(kind fieldKind, v []byte) {
	switch kind {
	case fieldConnection:
		r.readConnection(v)
	case fieldUpgrade:
		r.upgrade = v
	case fieldExpect:
		r.expects = !r.http10 && equalFold(v, "100-continue")
	case fieldTE:
		r.teTrailers = r.teTrailers || hasElement(v, "trailers")
	case fieldDebug:
		r.debug = true
	case fieldDebugRouter:
		r.debug = r.debug || len(v) > 0
	case fieldMaxForwards:
		if string(r.method) == "OPTIONS" {
			if n, ok := parseLength(v); ok && n < math.MaxInt32 {
				r.maxForward = int(n)
			}
		}
	}
}

// maxConnectionOptions bounds the elements of all Connection fields, empty ones included: every other field is compared
// with each of them.
const maxConnectionOptions = 64 // Limit

// readConnection reads one Connection field (RFC 9110 §7.6.1).
func (r *request) readConnection(list []byte) {
	for more := true; more && r.elements <= maxConnectionOptions; r.elements++ {
		var e []byte
		e, list, more = nextElement(list)
		switch {
		case len(e) == 0:
		case equalFold(e, "close"):
			r.keepAlive, r.closes = false, true
		case equalFold(e, "keep-alive"):
			// HTTP/1.0 only; a close in the same message wins.
			r.keepAlive = r.keepAlive || r.http10 && !r.closes
		default:
			r.options = true
		}
	}
}

// settleUpgrade keeps an Upgrade only if Connection names it and the request can switch.
func (r *request) settleUpgrade() {
	if r.upgrade != nil && (r.http10 || !r.lists("upgrade")) {
		r.upgrade = nil
	}
}

// parseLength reads 1*DIGIT without sign, white space or overflow.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 19 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// isGRPC reports whether the body is a sequence of gRPC's messages, in whatever encoding. gRPC-Web is something else.
func (r *request) isGRPC() bool {
	for i := range r.fields {
		f := &r.fields[i]
		if f.kind == fieldPlain && equalFold(f.name.of(r.b), "content-type") {
			rest, found := bytes.CutPrefix(f.value.of(r.b), []byte("application/grpc"))
			return found && (len(rest) == 0 || rest[0] == '+' || rest[0] == ';')
		}
	}
	return false
}

// proto names the version that the client speaks, for logs.
func (r *request) proto() string {
	switch {
	case r.major == 2:
		return "HTTP/2.0"
	case r.major == 3:
		return "HTTP/3.0"
	case r.http10:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}
