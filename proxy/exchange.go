package proxy

import (
	"sync/atomic"
	"time"

	"sluice/cache"
	"sluice/internal/accesslog"
)

// exchange is one request and its answer inside the proxy. It belongs to its client connection, which uses it for one
// request after another. Each group of fields is set in one room and only read in later ones.
type exchange struct {
	// Immutable for the life of the connection.
	srv  *Server
	down downstream
	peer *peerInfo
	cfg  *Config // of the present request

	// listener: the judged head of the request.
	req   request
	start instant

	// handler: the normalised host and what it resolves to.
	host    []byte
	hostBuf [maxHost + 8]byte // Limit: host, colon and port
	route   cache.Route
	routed  bool   // route is set
	debug   bool   // the client may see debug headers, and asks for them
	id      []byte // of the request, if one is wanted
	idOurs  bool   // the client sent none: the backend gets ours
	idBuf   [36]byte

	// choice: the backend of the present attempt.
	index   int
	backend *cache.Backend
	tried   []string // keys of the backends of earlier attempts
	full    []int    // indices of those among them that were passed over because they had no room

	// forward: the attempts, and the present one's connection and answer.
	pool      *pool
	up        *backendConn
	res       response
	resBody   body
	attempts  int     // attempts made, redials of dead idle connections not counted
	sent      int     // attempts of which a byte may have reached a backend
	first     instant // start of the first attempt
	company   int64   // requests in flight to the same backend when this one had its answer
	upload    upload
	phase     phase
	watched   bool   // the client is being watched
	giveUp    func() // ends the wait for a backend connection, while there is one
	announced bool   // the backend has been told of a body that the client keeps back
	heard     bool   // bytes of an answer to the present attempt have come

	// Written by other goroutines while the exchange waits for its backend.
	gone     atomic.Bool // the client has gone; nobody waits for the answer
	answered atomic.Bool // a byte of the answer has been handed to the client

	// finish: what happened.
	end         instant
	err         Error
	message     string // overrides the message of the error's kind
	status      int
	sentBytes   int64 // body bytes written to the client
	backendTime time.Duration
	closing     bool // the client's connection ends with this exchange
	retryAfter  int  // seconds, for our own 503
	record      accesslog.Record
}

// maxHost is the longest host that is looked up (RFC 1035 §2.3.4).
const maxHost = 253

// begin makes x ready for the next request of its connection.
func (x *exchange) begin() {
	x.req.reset()
	x.res.reset()
	x.start, x.host, x.route, x.routed, x.debug, x.id, x.idOurs = 0, nil, cache.Route{}, false, false, nil, false
	x.index, x.backend, x.tried, x.full = 0, nil, x.tried[:0], x.full[:0]
	x.pool, x.up, x.attempts, x.sent, x.first, x.phase = nil, nil, 0, 0, 0, phase{}
	x.watched, x.announced, x.heard = false, false, false
	x.gone.Store(false)
	x.answered.Store(false)
	x.err, x.message, x.status, x.sentBytes, x.backendTime, x.closing, x.retryAfter = Error{}, "", 0, 0, 0, false, 0
}

// vhost returns the identifier of the frontend, "-" where none was found.
func (x *exchange) vhost() string {
	if !x.routed {
		return "-"
	}
	return x.route.Frontend().VHost
}
