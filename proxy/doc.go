// Package proxy is the data plane of sluice: HTTP/1.1 in, HTTP/1.1 out.
//
// A request passes these rooms, in this order, and never backwards:
//
//	listener -> handler -> route lookup (package cache) -> backend choice -> forward / tunnel -> finish
//
// The listener accepts, limits and speaks TLS. The handler is the table of contents of a request. The choice is a pure
// function over an immutable frontend. Forward makes one attempt after another, each of them on one backend connection.
// Finish is the single exit: it runs after the last byte and writes the access-log record, the metrics and the report
// of a dead backend.
//
// fasthttp carries both ends of the connection handling: its Server accepts, runs the TLS handshake and keeps the pool
// of goroutines; one of its HostClients per backend is the pool of connections. The messages in between are ours: heads
// are judged once, byte for byte, and are forwarded as they came (see head.go, request.go, response.go, body.go),
// because an intermediary that re-serialises what it parsed is where smuggling and lost header fields come from.
//
// The package never imports a Redis client and never talks to a store: routes come from package cache, which answers
// from memory. Everything exported is safe for concurrent use unless it says otherwise.
package proxy
