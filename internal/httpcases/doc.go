// Package httpcases holds raw HTTP/1.1 and WebSocket cases and plays them against a proxy from both
// sides at once: as a client with scripted bytes, and as the scripted backend behind it. A case
// states what may reach the backend and what may come back; where the RFCs leave a choice it allows
// several answers.
//
// The proxy under test must send the hosts h, other, abs.example, h.example, xn--bcher-kva.example and [2001:db8::1]
// (any case, any port) to the backend's address and no other host anywhere. One backend plays one case at a time;
// several pairs of proxy and backend play in parallel. The package imports nothing of sluice, and any proxy can be
// played against; only tests call it.
package httpcases
