package proxy

import (
	"bytes"
	"strconv"

	"sluice/cache"
)

// obeyPolicy answers a request that the policy of its host sends elsewhere, and reports whether it did. A redirect is
// no error: it has no X-Sluice-Error, and is logged and counted like an answer of a backend.
func (s *Server) obeyPolicy(x *exchange) bool {
	p := s.routes.Policy(&x.route)
	toHTTPS := p.RedirectHTTPS && !x.isSecure()
	toHost := p.CanonicalHost != "" && p.CanonicalHost != string(x.host)
	if !toHTTPS && !toHost || !x.redirectable() {
		return false
	}
	if toHTTPS {
		s.metrics.redirects[redirectHTTPS].Inc()
	} else {
		s.metrics.redirects[redirectHost].Inc()
	}
	x.down.writeOwn(&ownAnswer{status: x.redirectStatus(p), location: x.appendLocation(nil, p, toHTTPS || x.isSecure())})
	return true
}

// redirectable reports whether the request can be repeated elsewhere: it is about a resource, and not about a proof
// that this name is served here.
func (x *exchange) redirectable() bool {
	return !bytes.HasPrefix(x.req.path, []byte(acmePath)) && !bytes.Equal(x.req.target, []byte("*"))
}

// redirectStatus returns 308, which keeps method and body, or 301 where the policy says so and neither matters.
func (x *exchange) redirectStatus(p *cache.Policy) int {
	if p.MovedPermanently && (x.req.isHead || string(x.req.method) == "GET") {
		return 301
	}
	return 308
}

// appendLocation appends the URL that the client is sent to. Host and target were judged with the head: neither holds
// what could end a line.
func (x *exchange) appendLocation(dst []byte, p *cache.Policy, secure bool) []byte {
	if secure {
		dst = append(dst, "https://"...)
	} else {
		dst = append(dst, "http://"...)
	}
	if p.CanonicalHost != "" {
		dst = append(dst, p.CanonicalHost...)
	} else {
		dst = append(dst, x.host...)
	}
	if port := x.redirectPort(secure); port != "" {
		dst = append(append(dst, ':'), port...)
	}
	if len(x.req.target) == 0 || x.req.target[0] == '?' {
		dst = append(dst, '/') // http://host?query has an empty path (RFC 9112 §3.2.1).
	}
	return append(dst, x.req.target...)
}

// redirectPort returns the port that the client is sent to, "" for the usual one of the scheme. Where the scheme stays,
// it is the one that the client named: there it reached us. Where it changes, only a client that reached the port of
// our listener, with nothing in between that maps ports, can reach that of the https listener as well.
func (x *exchange) redirectPort(secure bool) string {
	named := portOf(x.req.authority)
	if secure == x.isSecure() {
		if len(named) == 0 || string(named) == usualPort(secure) {
			return "" // Fast path.
		}
		return string(named)
	}
	if len(named) == 0 {
		named = append(named, usualPort(false)...)
	}
	port := x.cfg.PublicHTTPSPort
	if port == 0 && !x.isForwarded() && bytes.Equal(named, x.peer.port) {
		port = x.cfg.HTTPSPort
	}
	if port == 0 || port == 443 {
		return ""
	}
	return strconv.Itoa(port)
}

func usualPort(secure bool) string {
	if secure {
		return "443"
	}
	return "80"
}

// portOf returns the digits behind the host of an authority, nil if there are none.
func portOf(authority []byte) []byte {
	i := len(authority)
	for i > 0 && authority[i-1] >= '0' && authority[i-1] <= '9' {
		i--
	}
	if i == 0 || i == len(authority) || authority[i-1] != ':' {
		return nil
	}
	return authority[i:]
}

// isForwarded reports whether a trusted peer says that the request came by way of it.
func (x *exchange) isForwarded() bool {
	if !x.peer.trusted {
		return false
	}
	for i := range x.req.head.fields {
		switch x.req.head.fields[i].kind {
		case fieldForwardedProto, fieldForwardedFor:
			return true
		}
	}
	return false
}

// isSecure reports whether the client came over TLS, to us or to a trusted peer that says so.
func (x *exchange) isSecure() bool {
	if x.peer.trusted {
		h := &x.req.head
		for i := range h.fields {
			if h.fields[i].kind == fieldForwardedProto {
				first, _, _ := bytes.Cut(h.fields[i].value.of(h.b), []byte(","))
				return bytes.EqualFold(trimOWS(first), []byte("https"))
			}
		}
	}
	return x.peer.proto == "https"
}

const hstsField = "Strict-Transport-Security"

// appendHSTS appends the policy's Strict-Transport-Security to an answer over TLS (RFC 6797 §7.2: not over plain HTTP).
// r is the backend's head, whose own field counts instead; nil for an answer of ours.
func (x *exchange) appendHSTS(dst []byte, r *response) []byte {
	if !x.routed {
		return dst
	}
	p := x.srv.routes.Policy(&x.route)
	if p.HSTS == "" || !x.isSecure() {
		return dst // Fast path.
	}
	if r != nil {
		if r.status < 200 {
			return dst
		}
		for i := range r.fields {
			if bytes.EqualFold(r.fields[i].name.of(r.b), []byte(hstsField)) {
				return dst
			}
		}
	}
	return append(append(append(dst, hstsField+": "...), p.HSTS...), "\r\n"...)
}
