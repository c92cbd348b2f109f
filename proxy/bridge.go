package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"sync"
)

// bridge carries one exchange to a backend that speaks HTTP/2. To the exchange it is a connection on which HTTP/1.1 is
// spoken, so that limits, retries, streaming and cancellation are those of every other backend; at its other end a
// goroutine makes a stream of it. It serves one request.
type bridge struct {
	srv    *Server
	cc     *http.ClientConn
	conn   net.Conn // the backend's end of a pipe
	cancel context.CancelFunc

	src  source
	req  request
	body body
	rest []byte // of the body, read but not asked for yet

	trailer http.Header // the request's, filled in at the end of its body
	out     buffer
	interim interimAnswers

	mu  sync.Mutex
	err error // why the stream failed, for the exchange
}

// openBridge makes bc a bridge over a connection to its backend.
func (bc *backendConn) openBridge(ctx context.Context, cfg *Config) error {
	cc, err := bc.pool.h2c.reserve(ctx, cfg.ConnectTimeout)
	if err != nil {
		return err
	}
	front, back := net.Pipe()
	b := &bridge{srv: bc.pool.srv, cc: cc, conn: back}
	b.src.read = back.Read
	ctx, b.cancel = context.WithCancel(context.Background())
	bc.link = newLink(&bridgeConn{front, b})
	bc.link.limitWrite(cfg.ResponseTimeout, 0)
	bc.rw, bc.Conn = bc.link, bc.link
	go b.run(ctx)
	return nil
}

// bridgeConn is the exchange's end. Closing it resets the stream, if that has not ended.
type bridgeConn struct {
	net.Conn
	b *bridge
}

// Read reads the answer. Its end tells why, if the stream failed.
func (c *bridgeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		if cause := c.b.failure(); cause != nil {
			err = cause
		}
	}
	return n, err
}

// Close ends the exchange with the backend.
func (c *bridgeConn) Close() error {
	c.b.cancel()
	return c.Conn.Close()
}

func (b *bridge) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *bridge) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

var (
	errBridgeHead   = errors.New("head can't be sent in http/2")
	errBridgeSwitch = errors.New("101 in http/2")
)

// run carries the request and its answer.
func (b *bridge) run(ctx context.Context) {
	defer b.cancel()
	defer b.conn.Close()
	defer b.srv.survive("bridge", func() { b.fail(errBridgeHead) })
	if err := b.carry(ctx); err != nil {
		b.fail(err)
	}
	b.out.release()
}

func (b *bridge) carry(ctx context.Context) error {
	q, err := b.request()
	if err != nil {
		b.cc.Release()
		return err
	}
	if b.req.expects {
		b.interim.send([]byte("HTTP/1.1 100 Continue\r\n\r\n"), b.conn) // Flow control does what asking would do.
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: b.gotInterim})
	res, err := b.cc.RoundTrip(q.WithContext(ctx))
	b.interim.end()
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return b.answer(res)
}

// request reads the head that the exchange wrote and makes it one of HTTP/2.
func (b *bridge) request() (*http.Request, error) {
	b.src.buf.acquire(smallBuffer)
	rules := headRules{maxBytes: 2 * maxHeaderBytes, maxFields: 2 * maxHeaderFields}
	b.req.reset()
	n, bad, err := b.src.scanHead(&b.req.head, &rules)
	if err != nil {
		return nil, err
	}
	if bad != 0 || b.req.judge() != 0 {
		return nil, errBridgeHead
	}
	r := &b.req
	host, header := string(r.authority), b.fields()
	q := &http.Request{
		Method: string(r.method), Host: host, Header: header, Trailer: b.trailer,
		// The library sends what stands behind scheme and host, byte for byte.
		URL: &url.URL{Scheme: "http", Host: host, Opaque: "//" + host + string(r.target)},
	}
	b.src.r += n
	b.body.start(&b.src, r.framing, r.contentLength)
	if r.framing != framingNone {
		q.Body, q.ContentLength = bridgeBody{b}, -1
		if r.framing == framingLength {
			q.ContentLength = r.contentLength
		}
	}
	return q, nil
}

// fields makes a header map of the request's fields, without those that HTTP/1.1 has for itself.
func (b *bridge) fields() http.Header {
	r := &b.req
	h := make(http.Header, len(r.fields)+1)
	for i := range r.fields {
		f := &r.fields[i]
		value := string(f.value.of(r.b))
		switch f.kind {
		case fieldHost, fieldContentLength, fieldTransferEncoding, fieldConnection, fieldUpgrade, fieldExpect:
		case fieldTrailer:
			b.announce(value)
		default:
			name := http.CanonicalHeaderKey(string(f.name.of(r.b)))
			h[name] = append(h[name], value)
		}
	}
	if _, set := h["User-Agent"]; !set {
		h["User-Agent"] = nil // Else the library would send its own.
	}
	return h
}

// announce notes the names of a Trailer field.
func (b *bridge) announce(list string) {
	if b.trailer == nil {
		b.trailer = make(http.Header)
	}
	for rest, more := []byte(list), true; more; {
		var name []byte
		if name, rest, more = nextElement(rest); isToken(name) && classify(name) == fieldPlain {
			b.trailer[http.CanonicalHeaderKey(string(name))] = nil
		}
	}
}

// bridgeBody is the request's body for the library.
type bridgeBody struct{ b *bridge }

// Read implements io.Reader.
func (r bridgeBody) Read(p []byte) (int, error) {
	b := r.b
	if len(b.rest) == 0 {
		var err error
		if b.rest, err = b.body.next(); err != nil && len(b.rest) == 0 {
			if err == io.EOF {
				b.setTrailers()
			}
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close makes a Read that waits return: the backend takes no more.
func (r bridgeBody) Close() error { return r.b.conn.SetReadDeadline(longAgo) }

func (b *bridge) setTrailers() {
	t := &b.body.trailer
	for i := range t.fields {
		name := http.CanonicalHeaderKey(string(t.fields[i].name.of(t.b)))
		if _, announced := b.trailer[name]; announced {
			b.trailer[name] = append(b.trailer[name], string(t.fields[i].value.of(t.b)))
		}
	}
}

// answer writes the answer as HTTP/1.1 has it.
func (b *bridge) answer(res *http.Response) error {
	b.out.acquire(bodyBuffer)
	_, sized := res.Header["Content-Length"]
	sized = sized && len(res.Trailer) == 0
	bodyless := b.req.isHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
	if !sized && !bodyless {
		delete(res.Header, "Content-Length")
	}
	out := appendBridgeStatus(b.out.b[:0], res.StatusCode)
	out = append(appendHeaderLines(out, res.Header), "Connection: close\r\n"...)
	for name := range res.Trailer {
		out = append(append(append(out, "Trailer: "...), name...), "\r\n"...)
	}
	chunked := !sized && !bodyless
	if chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	out = append(out, "\r\n"...)
	if chunked && res.ContentLength == 0 {
		// The stream has ended with its head. In one piece it leaves as such: to gRPC an end of its own would be an error.
		out, bodyless = append(out, "0\r\n\r\n"...), true
	}
	if _, err := b.conn.Write(out); err != nil || bodyless {
		return err
	}
	return b.copyBody(res, chunked)
}

// copyBody writes each piece of the body as soon as it comes.
func (b *bridge) copyBody(res *http.Response, chunked bool) error {
	var in buffer
	in.acquire(bodyBuffer)
	defer in.release()
	for {
		n, err := res.Body.Read(in.b[:bodyBuffer-chunkFrame])
		if n > 0 {
			p := in.b[:n]
			if chunked {
				p = appendChunk(b.out.b[:0], p)
			}
			if _, werr := b.conn.Write(p); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF && chunked:
			end := appendHeaderLines(append(b.out.b[:0], "0\r\n"...), res.Trailer)
			_, err = b.conn.Write(append(end, "\r\n"...))
			return err
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func appendBridgeStatus(dst []byte, status int) []byte {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(dst, ' '), http.StatusText(status)...), "\r\n"...)
}

// appendHeaderLines appends the fields of a header map, in no certain order; equal names keep theirs.
func appendHeaderLines(dst []byte, h http.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			dst = append(append(dst, name...), ": "...)
			dst = append(append(dst, v...), "\r\n"...)
		}
	}
	return dst
}

// gotInterim is called by the library's goroutine for the whole connection, which must not wait for this exchange.
func (b *bridge) gotInterim(code int, h textproto.MIMEHeader) error {
	if code == http.StatusSwitchingProtocols {
		return errBridgeSwitch // RFC 9113 §8.6. The exchange would take it for the begin of a tunnel.
	}
	b.interim.send(append(appendHeaderLines(appendBridgeStatus(nil, code), http.Header(h)), "\r\n"...), b.conn)
	return nil
}

// interimAnswers writes interim answers in a goroutine of its own, which there is only if there are some.
type interimAnswers struct {
	mu    sync.Mutex
	queue chan []byte
	done  chan struct{}
	ended bool
}

// send queues an answer. What exceeds maxInterim is dropped: the exchange refuses so many.
func (i *interimAnswers) send(head []byte, to io.Writer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	if i.queue == nil {
		queue, done := make(chan []byte, maxInterim+1), make(chan struct{})
		i.queue, i.done = queue, done
		go func() {
			defer close(done)
			for p := range queue {
				if _, err := to.Write(p); err != nil {
					return
				}
			}
		}()
	}
	select {
	case i.queue <- head:
	default:
	}
}

// end waits until all have been written. What comes later is dropped.
func (i *interimAnswers) end() {
	i.mu.Lock()
	i.ended = true
	queue := i.queue
	i.mu.Unlock()
	if queue != nil {
		close(queue)
		<-i.done
	}
}
