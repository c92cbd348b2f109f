package proxy

import "time"

// SweepPools does what the background sweep will do when d has passed.
func (s *Server) SweepPools(d time.Duration) { s.pools.sweep(now().after(d)) }

// ForgetSurplus lets backends that sent surplus bytes be trusted again at once.
func (s *Server) ForgetSurplus() {
	s.pools.mu.RLock()
	defer s.pools.mu.RUnlock()
	for _, p := range s.pools.m {
		p.noReuse.Store(0)
	}
}
