package proxy

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"
)

// webStream is a stream whose connection a library serves, by way of net/http's interfaces.
type webStream struct {
	stream
	w streamWriter
	r *http.Request

	leaves   [leaverCount]leaving
	deadline instant // when the library ends a write that waits; guarded by the connection's mu
}

// streamWriter is what the libraries' response writers are; http.ResponseController asks for the same methods.
type streamWriter interface {
	http.ResponseWriter
	FlushError() error
	SetWriteDeadline(deadline time.Time) error
}

var webStreams = sync.Pool{New: func() any {
	ws := &webStream{}
	ws.init(ws)
	return ws
}}

// streamWriteTime is how long a write may wait for a client's window before a library ends the stream by itself. The
// sweep puts it off while a stream makes progress.
const streamWriteTime = 2 * rateSpan

// serveWeb answers one request that a library has read. It reports whether the answer must not look complete.
func (m *muxConn) serveWeb(w http.ResponseWriter, r *http.Request) (cut bool) {
	ws := webStreams.Get().(*webStream)
	ws.w, ws.r = w.(streamWriter), r
	ws.begin(m)
	ws.x.req.major = uint8(r.ProtoMajor)
	ws.deadline = ws.x.start.after(streamWriteTime)
	if !m.enter(&ws.stream) {
		ws.release()
		return true
	}
	returned := false
	defer func() {
		if !returned { // The fence itself has failed: ws is not used again.
			m.srv.survive("stream", func() { cut = true })
			m.leave(&ws.stream)
		}
	}()
	ws.serve()
	returned, cut = true, ws.aborted
	m.leave(&ws.stream)
	ws.release()
	return cut
}

// release gives ws back to the pool.
func (ws *webStream) release() {
	ws.reset()
	ws.w, ws.r, ws.deadline = nil, nil, 0
	webStreams.Put(ws)
}

// appendHead implements carrier.
func (ws *webStream) appendHead(dst []byte) []byte { return appendStreamHead(dst, ws.r) }

// left implements carrier.
func (ws *webStream) left() error { return ws.r.Context().Err() }

// whenLeft implements carrier.
func (ws *webStream) whenLeft(who leaver, f func()) { ws.leaves[who].start(ws.r.Context(), f) }

// unlessLeft implements carrier.
func (ws *webStream) unlessLeft(who leaver) { ws.leaves[who].stop() }

// begun implements carrier. The libraries do not tell.
func (ws *webStream) begun() bool { return false }

// read implements carrier.
func (ws *webStream) read(p []byte) (int, error) { return ws.r.Body.Read(p) }

// stopReading implements carrier.
func (ws *webStream) stopReading() { _ = ws.r.Body.Close() }

// appendTrailers implements carrier. The libraries give only those that a Trailer field announced.
func (ws *webStream) appendTrailers(dst []byte) []byte { return appendHeaderLines(dst, ws.r.Trailer) }

// sendInterim implements carrier.
func (ws *webStream) sendInterim(status int, lines []byte) error {
	ws.setFields(lines)
	ws.w.WriteHeader(status)
	clear(ws.w.Header())
	return ws.left()
}

// send implements carrier. The library ends the stream when the handler returns: a complete answer is left to it, so
// that its end needs no frame of its own.
func (ws *webStream) send(lines, body []byte, how sending) error {
	if lines != nil {
		ws.setFields(lines)
		ws.keepSilent()
		ws.w.WriteHeader(ws.status)
		clear(ws.w.Header()) // The library has its own copy. What is set later are trailers.
	}
	if len(body) > 0 {
		ws.waits(len(body))
		_, err := ws.w.Write(body)
		if ws.taken(); err != nil {
			return err
		}
	}
	switch how {
	case sendNow:
		ws.waits(0)
		err := ws.w.FlushError()
		if ws.taken(); err != nil {
			return err
		}
	case sendLast:
		ws.setTrailers()
	case sendSoon:
	}
	return ws.left()
}

func (ws *webStream) setTrailers() {
	if ws.tail == nil {
		return
	}
	h := ws.w.Header()
	for i := range ws.tail.fields {
		if f := &ws.tail.fields[i]; !forbiddenTrailer(ws.tail, f) {
			name := http.TrailerPrefix + http.CanonicalHeaderKey(string(f.name.of(ws.tail.b)))
			h[name] = append(h[name], string(f.value.of(ws.tail.b)))
		}
	}
}

// sweep implements carrier: a stream that stalls is reset, and the library's own limit put off for the others.
func (ws *webStream) sweep(t instant, stalled bool) {
	switch {
	case stalled:
		_ = ws.w.SetWriteDeadline(longAgo)
	case ws.deadline.until(t) > -streamWriteTime/2:
		ws.deadline = t.after(streamWriteTime)
		_ = ws.w.SetWriteDeadline(ws.deadline.wall())
	}
}

// keepSilent keeps the library from inventing fields that the backend did not send.
func (ws *webStream) keepSilent() {
	h := ws.w.Header()
	for _, name := range []string{"Date", "Content-Type", "Content-Length"} {
		if _, set := h[name]; !set {
			h[name] = nil
		}
	}
}

// setFields puts field lines into the header map. Values share one string.
func (ws *webStream) setFields(lines []byte) {
	h, rest := ws.w.Header(), string(lines)
	values := make([]string, 0, bytes.Count(lines, []byte("\n")))
	for rest != "" {
		var name, value string
		name, value, rest = cutLine(rest)
		if name == "" {
			continue
		}
		name = http.CanonicalHeaderKey(name)
		if old, set := h[name]; set {
			h[name] = append(old, value)
			continue
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// leaving calls a function when a request's context ends.
type leaving struct {
	cancel func() bool
	done   chan struct{}
}

func (l *leaving) start(ctx context.Context, gone func()) {
	done := make(chan struct{})
	l.done = done
	l.cancel = context.AfterFunc(ctx, func() {
		defer close(done)
		gone()
	})
}

// stop ends the wait. The function does not run any more when stop returns.
func (l *leaving) stop() {
	if l.cancel == nil {
		return
	}
	if !l.cancel() {
		<-l.done
	}
	l.cancel, l.done = nil, nil
}
