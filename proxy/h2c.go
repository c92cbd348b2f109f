package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of HTTP/2 towards a backend.
const (
	h2cConnWindow   = 16 << 20         // Limit: bytes of answers in flight on a connection
	h2cStreamWindow = 256 << 10        // Limit: bytes of one answer in flight
	h2cPingAfter    = 15 * time.Second // a silent connection with requests on it is asked whether it lives
	h2cTries        = 16               // Limit: connections that fill up while a request looks for a place
)

// h2cConns holds the HTTP/2 connections to one backend: one, and more while it takes no more streams on those.
type h2cConns struct {
	address   string
	transport http.Transport

	mu      sync.Mutex
	conns   []*http.ClientConn
	dialing *h2cDial // whoever needs a connection meanwhile waits for this one
	waiting int      // requests that wait for it
	retired bool     // its pool is forgotten: connections end with their last request
}

// h2cDial is a connection on its way. err is valid once done is closed.
type h2cDial struct {
	done chan struct{}
	err  error
}

func newH2CConns(address string) *h2cConns {
	h := &h2cConns{address: address}
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	h.transport.DialContext = dialer.DialContext
	h.transport.Protocols = new(http.Protocols)
	h.transport.Protocols.SetUnencryptedHTTP2(true)
	h.transport.DisableCompression = true
	h.transport.MaxResponseHeaderBytes = maxAnswerHead
	h.transport.HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerConnection: h2cConnWindow,
		MaxReceiveBufferPerStream:     h2cStreamWindow,
		SendPingTimeout:               h2cPingAfter,
	}
	return h
}

var errH2CBusy = errors.New("every connection filled up at once")

// reserve returns a connection with a place for one request, dialling within limit if there is none. It gives up when
// ctx ends; the connection goes on to be made, for others.
func (h *h2cConns) reserve(ctx context.Context, limit time.Duration) (*http.ClientConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.settle()
	for range h2cTries {
		if cc := h.free(); cc != nil {
			return cc, nil
		}
		d := h.dialing
		if d == nil {
			d = &h2cDial{done: make(chan struct{})}
			h.dialing = d
			go h.dial(d, limit)
		}
		if err := h.await(ctx, d); err != nil {
			return nil, err
		}
	}
	return nil, errH2CBusy
}

// await waits for a connection on its way. h.mu is held, but not meanwhile.
func (h *h2cConns) await(ctx context.Context, d *h2cDial) (err error) {
	h.waiting++
	h.mu.Unlock()
	select {
	case <-d.done:
		err = d.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	h.mu.Lock()
	h.waiting--
	return err
}

// free reserves a place on a connection that has one. It forgets those that have ended, and ends those that nobody uses
// any more beside it. h.mu is held.
func (h *h2cConns) free() *http.ClientConn {
	live := h.conns[:0]
	var found *http.ClientConn
	for _, cc := range h.conns {
		switch {
		case cc.Err() != nil:
			endWithLast(cc) // Requests on it go on to their end.
		case found == nil && cc.Reserve() == nil:
			found = cc
			live = append(live, cc)
		case found != nil && cc.InFlight() == 0:
			_ = cc.Close()
		default:
			live = append(live, cc)
		}
	}
	clear(h.conns[len(live):])
	h.conns = live
	return found
}

// dial makes another connection.
func (h *h2cConns) dial(d *h2cDial, limit time.Duration) {
	ctx := context.Background()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	cc, err := h.transport.NewClientConn(ctx, "http", h.address)
	h.mu.Lock()
	if d.err = err; err == nil {
		h.conns = append(h.conns, cc)
	}
	h.dialing = nil
	h.settle()
	h.mu.Unlock()
	close(d.done)
}

// closeIdle lets go of all connections. Those with requests on them end with the last one.
func (h *h2cConns) closeIdle() {
	h.mu.Lock()
	conns := h.conns
	h.conns = nil
	h.mu.Unlock()
	for _, cc := range conns {
		endWithLast(cc)
	}
}

// retire lets go of all connections for good. A request that had the pool before it was forgotten, and stood in a queue
// or waits for a connection, still gets one: nobody would close that later, so it ends with its last request, too.
func (h *h2cConns) retire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retired = true
	h.settle()
}

// settle lets go of connections that no request will look for any more. h.mu is held.
func (h *h2cConns) settle() {
	if !h.retired || h.waiting > 0 {
		return
	}
	for _, cc := range h.conns {
		endWithLast(cc)
	}
	h.conns = nil
}

// endWithLast closes a connection that gets no more requests, once it has none.
func endWithLast(cc *http.ClientConn) {
	cc.SetStateHook(func(cc *http.ClientConn) {
		if cc.InFlight() == 0 {
			_ = cc.Close()
		}
	})
	if cc.InFlight() == 0 {
		_ = cc.Close()
	}
}
