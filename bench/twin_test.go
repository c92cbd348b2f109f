package bench

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/valyala/fasthttp"
)

// maxIdlePerBackend is enough for every connection of drive.
const maxIdlePerBackend = 1024

// netHTTPTwin is net/http/httputil.ReverseProxy with the forwarding fields set.
func netHTTPTwin(s *suite, backend string, _ int) string {
	target := &url.URL{Scheme: "http", Host: backend}
	transport := &http.Transport{MaxIdleConnsPerHost: maxIdlePerBackend, DisableCompression: true}
	quiet := log.New(io.Discard, "", 0)
	server := &http.Server{
		ErrorLog: quiet,
		Handler: &httputil.ReverseProxy{
			Transport:  transport,
			BufferPool: &bufferPool{},
			ErrorLog:   quiet,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.SetXForwarded()
				r.Out.Host = r.In.Host
			},
		},
	}
	ln := s.listen()
	go func() { _ = server.Serve(ln) }() // It returns when it is closed.
	s.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
	return ln.Addr().String()
}

// bufferPool spares ReverseProxy a fresh 32 KiB for each answer.
type bufferPool struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte {
	if buf, ok := p.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(buf []byte) { p.pool.Put(&buf) }

// fastHTTPTwin is HostClient.Do on the server's own request and response, and nothing else.
func fastHTTPTwin(s *suite, backend string, _ int) string {
	hostClient := &fasthttp.HostClient{
		Addr:                     backend,
		MaxConns:                 maxIdlePerBackend,
		DisablePathNormalizing:   true,
		NoDefaultUserAgentHeader: true,
	}
	server := &fasthttp.Server{
		NoDefaultServerHeader: true,
		NoDefaultDate:         true,
		NoDefaultContentType:  true,
		Logger:                log.New(io.Discard, "", 0),
		Handler: func(ctx *fasthttp.RequestCtx) {
			if err := hostClient.Do(&ctx.Request, &ctx.Response); err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			}
		},
	}
	ln := s.listen()
	go func() { _ = server.Serve(ln) }() // It returns when it is shut down.
	s.Cleanup(func() {
		_ = ln.Close()
		_ = server.Shutdown()
		hostClient.CloseIdleConnections()
	})
	return ln.Addr().String()
}

// listen opens a listener on a free port.
func (s *suite) listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	return ln
}
