package proxy

import (
	"crypto/tls"
	"sync"
	"time"
)

// protoHTTP2 is the protocol's name in TLS (RFC 7301).
const protoHTTP2 = "h2"

// suitsHTTP2 reports whether a list of suites for TLS 1.2 holds one that HTTP/2 does not forbid (RFC 9113 §9.2.2); nil
// is Go's own choice. Go prefers these to others.
func suitsHTTP2(suites []uint16) bool {
	if suites == nil {
		return true
	}
	for _, s := range suites {
		switch s {
		case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
			return true
		}
	}
	return false
}

// h2Conns holds the connections that are served.
type h2Conns struct {
	mu    sync.Mutex
	conns map[*h2Conn]struct{}
}

// serveH2 serves an accepted connection whose client chose HTTP/2, until it ends or is parked.
func (s *Server) serveH2(a *acceptedConn, t *tls.Conn) {
	a.h2 = newH2Conn(s, a, t, t.ConnectionState().ServerName)
	s.h2.add(a.h2)
	s.metrics.h2Connections.Inc()
	a.h2.greet()
	s.carry(a)
}

func (hs *h2Conns) add(c *h2Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.conns == nil {
		hs.conns = make(map[*h2Conn]struct{})
	}
	hs.conns[c] = struct{}{}
}

func (hs *h2Conns) remove(c *h2Conn) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.conns, c)
}

// shutdown tells every connection's client to take its next requests elsewhere. What runs goes on.
func (hs *h2Conns) shutdown() {
	for _, c := range hs.all() {
		c.depart()
	}
}

// cut closes every connection, whatever it is doing.
func (hs *h2Conns) cut() {
	for _, c := range hs.all() {
		_ = c.link.Close()
	}
}

// count returns how many connections are served.
func (hs *h2Conns) count() int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return len(hs.conns)
}

// all returns the connections that are served.
func (hs *h2Conns) all() []*h2Conn {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	list := make([]*h2Conn, 0, len(hs.conns))
	for c := range hs.conns {
		list = append(list, c)
	}
	return list
}

// sweepH2Every is how often connections are looked at whose clients may have stopped.
const sweepH2Every = time.Second

// sweepH2 ends what clients let hang: heads that do not end, writes that they do not take, connections without
// requests.
func (s *Server) sweepH2() {
	defer s.sweeper.Done()
	tick := time.NewTicker(sweepH2Every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if s.closing.Load() {
			s.h2.shutdown() // A handshake may have ended after the first call.
		}
		t := now()
		for _, c := range s.h2.all() {
			c.tick(t)
		}
		s.workers.sweep(t)
	}
}

// settingsTime is how long a client may take to acknowledge our settings (RFC 9113 §6.5.3).
const settingsTime = 15 * time.Second // Limit

// tick is called every second.
func (c *h2Conn) tick(t instant) {
	limit := c.srv.config().HeaderTimeout
	if limit > 0 && c.headSince(t) > limit {
		c.srv.metrics.errors[KindRequestTimeout].Inc()
		_ = c.link.Close()
		return
	}
	c.sweep(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != 0 {
		return // Nothing is written behind the farewell.
	}
	c.stopLingerers(t)
	switch {
	case !c.acked && c.begun.until(t) > settingsTime:
		c.srv.metrics.h2Errors[scopeConnection].Inc()
		c.out = appendGoAway(c.outBytes(), c.lastID, codeSettingsTimeout)
		c.abandon()
		c.beginClosing()
	case c.leaving != 0 && c.leaving.until(t) >= goAwayTime:
		c.nameLast()
	case c.idleFrom != 0 && c.cfg.IdleTimeout > 0 && c.idleFrom.until(t) > c.cfg.IdleTimeout:
		c.nameLast()
	}
	c.kick()
}

// goAwayTime is how long a client has to learn that it is to leave, before requests are refused that it began since.
const goAwayTime = time.Second

// depart tells the client to take its next requests elsewhere. Those on their way are served: which is the last one is
// said when the client must have heard (RFC 9113 §6.8).
func (c *h2Conn) depart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving != 0 || c.closing != 0 {
		return
	}
	c.leaving = now()
	c.out = appendGoAway(c.outBytes(), maxStreamID, codeNone)
	c.out = appendPing(c.out, 0, make([]byte, 8))
	c.kick()
}

// nameLast says which request was the last one, and ends the connection when all are answered. mu is held.
func (c *h2Conn) nameLast() {
	if c.left || c.closing != 0 {
		return
	}
	c.left = true
	c.out = appendGoAway(c.outBytes(), c.lastID, codeNone)
	c.kick()
	if c.running == 0 && len(c.byID) == 0 {
		c.beginClosing()
	}
}
