package acme

import (
	"sync"
	"time"
)

// maxRemembered bounds the names that a memory keeps. Limit: beyond it, it forgets some.
const maxRemembered = 1 << 16

// memory remembers names until a time, so that the store is not asked in each handshake for what it
// has just refused.
type memory struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// holds tells whether a name is remembered.
func (m *memory) holds(name string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.until[name]
	if ok && !now.Before(until) {
		delete(m.until, name)
		ok = false
	}
	return ok
}

// put remembers a name.
func (m *memory) put(name string, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.until == nil {
		m.until = map[string]time.Time{}
	}
	if _, ok := m.until[name]; !ok && len(m.until) >= maxRemembered {
		for old := range m.until { // begins at a random place
			delete(m.until, old)
			break
		}
	}
	m.until[name] = until
}

// forget forgets a name.
func (m *memory) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.until, name)
}
