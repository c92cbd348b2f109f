package proxy

import (
	"net/http"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 The successors accept from a listener and do the handshake by themselves.

// h2Library is the one place that calls what the library would rather have net/http's server do: that one accepts from
// a listener and does the TLS handshake, both of which are done already here.
type h2Library struct {
	server http2.Server //nolint:staticcheck // See above.
}

// configure has hs.Shutdown tell the connections' clients to leave. hs holds the settings.
func (l *h2Library) configure(hs *http.Server) error {
	return http2.ConfigureServer(hs, &l.server) //nolint:staticcheck // See above.
}

// serve speaks HTTP/2 on c until it ends.
func (l *h2Library) serve(c *h2Conn, hs *http.Server) {
	l.server.ServeConn(c, &http2.ServeConnOpts{BaseConfig: hs, Handler: c}) //nolint:staticcheck // See above.
}
