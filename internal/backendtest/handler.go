package backendtest

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"
)

// HTTP serves handler in plain text.
func HTTP(t T, handler http.Handler) *Backend {
	t.Helper()
	return start(t, "http", func(b *Backend, ln net.Listener) { b.serveHTTP(ln, handler) })
}

func (b *Backend) serveHTTP(ln net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.busy.Add(1)
			defer b.busy.Add(-1)
			b.requests.Add(1)
			handler.ServeHTTP(w, r)
		}),
		// A handler that panics or a handshake that fails is a test's doing.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	_ = server.Serve(ln) // It ends when the backend is killed.
	_ = server.Close()
}

// Text answers with status and body.
func Text(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // A client that left is its own business.
	})
}

// Slow waits before the head and again between head and body, which it flushes.
func Slow(beforeHead, beforeBody time.Duration, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !pause(r, beforeHead) {
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		flush(w)
		if pause(r, beforeBody) {
			_, _ = io.WriteString(w, body) // A client that left is its own business.
		}
	})
}

// Chunked sends each of chunks as a chunk of its own, every one of them after a pause.
func Chunked(every time.Duration, chunks ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flush(w)
		for _, chunk := range chunks {
			if !pause(r, every) {
				return
			}
			_, _ = io.WriteString(w, chunk) // A client that left ends the pause.
			flush(w)
		}
	})
}

// SSE sends n server-sent events "event 0" to "event n-1", one each time every has passed, and ends;
// with n < 0 it goes on until the client leaves.
func SSE(n int, every time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		flush(w)
		for i := 0; i != n; i++ {
			if !pause(r, every) {
				return
			}
			fmt.Fprintf(w, "data: event %d\n\n", i)
			flush(w)
		}
	})
}

// Trailers sends body chunked, announces the names of trailers, and sends them behind it.
func Trailers(body string, trailers ...Field) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range trailers {
			w.Header().Add("Trailer", f.Name)
		}
		flush(w)
		_, _ = io.WriteString(w, body) // A client that left is its own business.
		for _, f := range trailers {
			w.Header().Set(f.Name, f.Value)
		}
	})
}

// pause waits d and tells whether the client is still there.
func pause(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return r.Context().Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // It fails only for a client that left.
}
