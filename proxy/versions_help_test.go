package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// withInterim has f called for each interim answer.
func withInterim(ctx context.Context, f func(code int, h http.Header)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			f(code, http.Header(h))
			return nil
		},
	})
}
