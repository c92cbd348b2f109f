// Package backendtest runs the backends that a proxy is tested against: scripted ones that speak raw
// bytes, one that echoes what reached it, ordinary net/http handlers (slow, chunked, SSE, trailers,
// WebSocket) in plain text or TLS, and addresses that refuse or swallow connections.
//
// Everything listens on 127.0.0.1 and ends with its test; a Backend counts connections and requests
// and can be killed and revived on its port. Unless said otherwise functions are safe to call from
// several goroutines. The package imports nothing of sluice and works on Linux only; tests,
// benchmarks and the load test call it, never the program.
package backendtest
