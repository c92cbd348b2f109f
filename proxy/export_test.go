package proxy

import "time"

// SweepPools does what the background sweep will do when d has passed.
func (s *Server) SweepPools(d time.Duration) { s.pools.sweep(now().after(d)) }

// InFlight returns how many requests hold or wait for a place at a backend.
func (s *Server) InFlight() (n int64) {
	s.pools.mu.RLock()
	defer s.pools.mu.RUnlock()
	for _, p := range s.pools.m {
		n += p.active.Load() + p.waiting.Load()
	}
	return n
}

// ForgetSurplus lets backends that sent surplus bytes be trusted again at once.
func (s *Server) ForgetSurplus() {
	s.pools.mu.RLock()
	defer s.pools.mu.RUnlock()
	for _, p := range s.pools.m {
		p.noReuse.Store(0)
	}
}

// AppendInteger writes the integers of compressed heads.
var AppendInteger = appendInteger

// ParkAfter parks connections that are idle for d. It comes before Serve.
func (s *Server) ParkAfter(d time.Duration) { s.idle.after = d }

// SweepStreams looks for stalled streams of HTTP/2 as it will be done when d has passed.
func (s *Server) SweepStreams(d time.Duration) {
	for _, c := range s.h2.all() {
		c.sweep(now().after(d))
	}
}

// StopAccepting lets the loops that accept come before Shutdown, which tells them to end and closes their listeners.
func (s *Server) StopAccepting() { s.closing.Store(true) }
