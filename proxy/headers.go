package proxy

import "strconv"

// appendRequestHead appends the head that goes to the backend: the client's request target and fields as they came, in
// their order, less what is for this connection only, plus what we vouch for. announced says that a 100 (Continue) is
// to be asked for.
func (x *exchange) appendRequestHead(dst []byte, announced bool) []byte {
	r := &x.req
	dst = append(dst, r.method...)
	dst = append(dst, ' ')
	if len(r.target) == 0 || r.target[0] == '?' {
		dst = append(dst, '/') // http://host?query has an empty path (RFC 9112 §3.2.1).
	}
	dst = append(dst, r.target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if r.absolute {
		dst = appendField(dst, "Host: ", r.authority)
	}
	for i := range r.fields {
		dst = x.appendRequestField(dst, i)
	}
	dst = x.appendForwarded(dst)
	if x.idOurs {
		dst = append(append(dst, x.cfg.RequestIDHeader...), ": "...)
		dst = append(append(dst, x.id...), "\r\n"...)
	}
	if r.framing == framingChunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if announced {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	return append(x.appendRequestHops(dst), "\r\n"...)
}

// appendRequestHops appends the hop-by-hop fields of our own connection to the backend.
func (x *exchange) appendRequestHops(dst []byte) []byte {
	r := &x.req
	switch {
	case r.upgrade != nil:
		dst = appendField(dst, "Upgrade: ", r.upgrade)
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case r.teTrailers:
		dst = append(dst, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	if r.maxForward > 0 {
		dst = append(dst, "Max-Forwards: "...)
		dst = strconv.AppendInt(dst, int64(r.maxForward-1), 10)
		dst = append(dst, "\r\n"...)
	}
	if via := x.cfg.Via; via != "" {
		version := "1.1 "
		if r.major > 0 {
			version = r.proto()[len("HTTP/"):] + " "
		}
		dst = append(append(append(append(dst, "Via: "...), version...), via...), "\r\n"...)
	}
	return dst
}

// appendRequestField copies field i of the request, or leaves it out.
func (x *exchange) appendRequestField(dst []byte, i int) []byte {
	r := &x.req
	f := &r.fields[i]
	switch f.kind {
	case fieldPlain, fieldReferer, fieldUserAgent, fieldRetryAfter, fieldDate, fieldDebug:
		if r.options && r.listsField(f.name.of(r.b)) {
			return dst
		}
	case fieldContentLength:
	case fieldHost:
		if r.absolute {
			return dst
		}
	case fieldTrailer:
		if r.framing != framingChunked || r.options && r.listsField(f.name.of(r.b)) {
			return dst
		}
	case fieldMaxForwards:
		if r.maxForward >= 0 {
			return dst
		}
	case fieldForwardedFor:
		if x.peer.trusted {
			return x.appendForwardedFor(dst, i)
		}
		x.srv.metrics.droppedForwarding.Inc()
		return dst
	case fieldForwardedProto, fieldForwardedProtocol, fieldForwardedPort, fieldRealIP, fieldForwardedOther,
		fieldClientCert:
		if !x.peer.trusted || f.kind == fieldClientCert && !x.believesClientCert() {
			x.srv.metrics.droppedForwarding.Inc()
			return dst
		}
	case fieldLookalike:
		x.srv.metrics.droppedLookalike.Inc()
		return dst
	default:
		return dst // Hop-by-hop, or written by us; counting them would count every request.
	}
	return r.appendField(dst, f)
}

// appendResponseFields copies the fields of an answer, in their order, less what was for the backend's connection only.
// Framing is left to the caller.
func (x *exchange) appendResponseFields(dst []byte, r *response) []byte {
	if !r.options && r.regular() {
		dst = r.appendRuns(dst)
	} else {
		for i := range r.fields {
			if f := &r.fields[i]; r.passes(f) {
				dst = r.appendField(dst, f)
			}
		}
	}
	dst = x.appendAltSvc(x.appendHSTS(dst, r), r)
	if via := x.cfg.Via; via != "" {
		dst = append(append(append(dst, "Via: 1.1 "...), via...), "\r\n"...)
	}
	if x.debug && r.status >= 200 {
		dst = x.appendDebug(dst)
	}
	return dst
}

// appendOffer keeps the Upgrade field of a 426 whose protocol is one that is passed: without it the client would not
// learn what it is to switch to (RFC 9110 §15.5.22).
func (x *exchange) appendOffer(dst []byte, r *response) []byte {
	if r.status != 426 || x.req.http10 || !x.cfg.passesUpgrade(r.upgrade) {
		return dst
	}
	return append(appendField(dst, "Upgrade: ", r.upgrade), "Connection: Upgrade\r\n"...)
}

// passes reports whether a field of an answer is end-to-end.
func (r *response) passes(f *field) bool {
	switch f.kind {
	case fieldContentLength, fieldTransferEncoding, fieldConnection, fieldKeepAlive, fieldProxyConnection,
		fieldProxyAuth, fieldTE, fieldUpgrade, fieldHTTP2Settings:
		return false
	case fieldTrailer:
		if r.framing != framingChunked {
			return false
		}
	}
	return !r.options || !r.listsField(f.name.of(r.b))
}

// regular reports whether every field line can be copied as it came.
func (r *response) regular() bool {
	for i := range r.fields {
		if r.fields[i].irregular {
			return false
		}
	}
	return true
}

// appendRuns copies the fields that pass, run by run: neighbouring lines are neighbours in the buffer.
//
// Fast path: most answers are two or three runs.
func (r *response) appendRuns(dst []byte) []byte {
	begin := int32(-1)
	end := int32(0)
	for i := range r.fields {
		f := &r.fields[i]
		if f.kind == fieldPlain || r.passes(f) {
			if begin < 0 {
				begin = f.line.start
			}
			end = f.line.end
			continue
		}
		if begin >= 0 {
			dst = append(dst, r.b[begin:end]...)
			begin = -1
		}
	}
	if begin >= 0 {
		dst = append(dst, r.b[begin:end]...)
	}
	return dst
}
