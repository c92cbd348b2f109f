package proxy

import "bytes"

// response is the judged head of a backend's answer. All slices alias the head.
type response struct {
	head
	status        int
	reason        []byte // with the space before it, as it came
	framing       framing
	contentLength int64
	reusable      bool // as far as the head says, the backend's connection may serve another request
	retryAfter    bool
	options       bool // Connection names fields of this message to be removed
	upgrade       []byte
}

func (r *response) reset() {
	h := r.head
	h.reset()
	*r = response{head: h}
}

// judge reads the status line and the framing of an answer to a request whose method was HEAD or not.
func (r *response) judge(toHead bool) bool {
	http10, ok := r.statusLine()
	if !ok {
		return false
	}
	r.reusable = !http10
	lengths, codings, ok := r.readFields(http10)
	if !ok {
		return false
	}
	if lengths > 0 && codings > 0 || codings > 0 && http10 {
		// RFC 9112 §6.1: faulty framing. What it says is followed as far as it is clear, the connection ends.
		r.reusable = false
		if http10 {
			return false
		}
	}
	r.settleFraming(toHead, lengths > 0, codings > 0)
	return true
}

// statusLine reads `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 §4).
func (r *response) statusLine() (http10, ok bool) {
	line := r.start.of(r.b)
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7] < '0' || line[7] > '9' || line[8] != ' ' {
		return false, false
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return false, false
		}
		r.status = r.status*10 + int(c-'0')
	}
	r.reason = line[12:]
	if len(r.reason) > 0 && r.reason[0] != ' ' {
		return false, false
	}
	return line[7] == '0', r.status >= 100 && r.status <= 599
}

func (r *response) readFields(http10 bool) (lengths, codings int, ok bool) {
	for i := range r.fields {
		f := &r.fields[i]
		if f.kind == fieldPlain {
			continue
		}
		v := f.value.of(r.b)
		switch f.kind {
		case fieldContentLength:
			n, valid := parseLength(v)
			if !valid || lengths > 0 && n != r.contentLength {
				return 0, 0, false
			}
			lengths++
			r.contentLength = n
		case fieldTransferEncoding:
			codings++
			if codings > 1 || !equalFold(v, "chunked") {
				return 0, 0, false
			}
		case fieldConnection:
			r.readConnection(v, http10)
		case fieldUpgrade:
			r.upgrade = v
		case fieldRetryAfter:
			r.retryAfter = true
		}
	}
	return lengths, codings, true
}

func (r *response) readConnection(list []byte, http10 bool) {
	for more := true; more; {
		var e []byte
		e, list, more = nextElement(list)
		switch {
		case len(e) == 0:
		case equalFold(e, "close"):
			r.reusable = false
		case equalFold(e, "keep-alive"):
			r.reusable = r.reusable || http10 && !r.lists("close")
		default:
			r.options = true
		}
	}
}

// settleFraming decides where the body ends (RFC 9112 §6.3).
func (r *response) settleFraming(toHead, length, chunked bool) {
	switch {
	case toHead || r.status < 200 || r.status == 204 || r.status == 304:
		r.framing = framingNone
	case chunked:
		r.framing = framingChunked
	case length && r.contentLength == 0:
		r.framing = framingNone
	case length:
		r.framing = framingLength
	default:
		r.framing, r.reusable = framingClose, false
	}
}

// keepsLength reports whether an answer without a body keeps its Content-Length: the one that a GET would have had
// (RFC 9110 §8.6), or 0.
func (r *response) keepsLength() bool {
	if r.framing != framingNone || r.status < 200 || r.status == 204 {
		return false
	}
	return r.has(fieldContentLength) && !r.has(fieldTransferEncoding)
}

// switches reports whether a 101 answer agrees to the upgrade that the request asked for (RFC 9110 §7.8).
func (r *response) switches(asked []byte) bool {
	return len(asked) > 0 && r.lists("upgrade") && bytes.EqualFold(r.upgrade, asked)
}
