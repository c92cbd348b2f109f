package proxy

import "time"

// SweepPools does what the background sweep will do when d has passed.
func (s *Server) SweepPools(d time.Duration) { s.pools.sweep(now().after(d)) }
