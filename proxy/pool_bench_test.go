package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// BenchmarkIdlePool takes an idle connection out of one backend's pool and puts it back, on all cores, as each request
// does once; it is the lock of fasthttp's HostClient that is measured.
func BenchmarkIdlePool(b *testing.B) {
	p := &pool{}
	p.hc = fasthttp.HostClient{
		Addr: "127.0.0.1:1", MaxConns: 1 << 30, MaxIdleConnDuration: time.Hour, ConnPoolStrategy: fasthttp.LIFO,
		DialTimeout: func(string, time.Duration) (net.Conn, error) { return newBackendConn(p), nil },
	}
	defer p.hc.CloseIdleConnections()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			cc, err := p.hc.AcquireConn(0, false)
			if err != nil {
				b.Error(err)
				return
			}
			p.hc.ReleaseConn(cc)
		}
	})
}
