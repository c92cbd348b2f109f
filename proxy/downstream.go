package proxy

// downstream is the client's side of an exchange, whatever version of HTTP it speaks. The rooms that forward use
// nothing else of the client. Byte slices that it is given are not kept after the call returns. Its methods are called
// by the goroutine of the exchange, but readBody and trailers by the one that streams the body, if there is one.
type downstream interface {
	// collectBody reads a small body into memory, before a backend is kept waiting for it. Larger ones are left to be
	// streamed, and so are those that the client keeps back until it gets a 100.
	collectBody() Error

	// bodyBegun reports whether bytes of the body have come already.
	bodyBegun() bool

	// wholeBody returns the request's body if all of it is in memory, without consuming it, so that it can be sent twice.
	wholeBody() (body []byte, ok bool)

	// readBody returns the next bytes of the request's body, valid until the next call, and io.EOF at its end. Every other
	// error is final.
	readBody() ([]byte, error)

	// cancelBody makes a readBody that waits in another goroutine return; resumeBody takes that back, when it has
	// returned.
	cancelBody()
	resumeBody()

	// watch has the exchange's leave called when the client goes away, until unwatch. Nothing may read the body meanwhile.
	watch()
	unwatch()

	// trailers returns the trailer fields of the request's body, after io.EOF.
	trailers() *head

	// bodyBytes returns how many bytes of the request's body have come.
	bodyBytes() int64

	// continueBody tells a client that waits for it to send the body (RFC 9110 §15.2.1).
	continueBody() error

	// writeInterim sends a 1xx answer other than 100 and 101 at once, or drops it where the client can't take it.
	writeInterim(r *response) error

	// writeHead begins the final answer. Like writeBody and endBody it may hold bytes back until flush.
	writeHead(r *response) error

	// writeBody sends the next bytes of the answer's body.
	writeBody(p []byte) error

	// endBody ends the answer's body, with trailer fields if there are any (nil otherwise).
	endBody(trailers *head) error

	// flush sends what was held back.
	flush() error

	// writeOwn sends an answer of our own, whole, in the place of anything held back.
	writeOwn(a *ownAnswer)

	// abort ends the connection so that the client can't take what it got for a complete answer.
	abort()
}
