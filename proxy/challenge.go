package proxy

// acmePath begins the paths under which certificates are asked for (RFC 8555 §8.3). They are never redirected: whoever
// has no certificate yet must be able to answer over plain HTTP, under each name.
const acmePath = "/.well-known/acme-challenge/"

// answersChallenge answers the question of an authority that a certificate was asked from, and reports whether it did.
// Questions that nobody here has asked for are the backends' to answer.
func (s *Server) answersChallenge(x *exchange) bool {
	path := x.req.path
	if s.challenge == nil || len(path) <= len(acmePath) || string(path[:len(acmePath)]) != acmePath {
		return false // Fast path.
	}
	if method := string(x.req.method); method != "GET" && method != "HEAD" {
		return false
	}
	text := s.challenge(x.host, path[len(acmePath):], x.clientAddr())
	if text == nil {
		return false
	}
	x.down.writeOwn(&ownAnswer{status: 200, contentType: "application/octet-stream", body: text})
	return true
}
