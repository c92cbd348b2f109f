package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// suite keeps what is expensive to start, such as a proxy that knows 100 000 routes, over all
// benchmarks: a benchmark function runs several times, with growing b.N. It is for one goroutine
// at a time, and takes the place of a test in backendtest.
type suite struct {
	cleanups []func()
	failed   bool
	addrs    map[string]string   // of proxies, by what they were started for
	caches   map[int]lookupCache // by the number of hosts
}

var shared = suite{addrs: map[string]string{}, caches: map[int]lookupCache{}}

func TestMain(m *testing.M) {
	status := m.Run()
	shared.close()
	if shared.failed && status == 0 {
		status = 1
	}
	os.Exit(status)
}

// close ends everything, the latest first.
func (s *suite) close() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// Helper implements backendtest.T.
func (s *suite) Helper() {}

// Cleanup implements backendtest.T: f runs after the last benchmark.
func (s *suite) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Errorf implements backendtest.T.
func (s *suite) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	s.failed = true
}

// Fatalf implements backendtest.T. Without its parts no benchmark makes sense.
func (s *suite) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// must ends the program on an error of a part's start.
func (s *suite) must(err error) {
	if err != nil {
		s.Fatalf("bench: %v", err)
	}
}

// addrOf returns the address of a proxy for w, started when first asked for, and warm: each name
// has been asked for.
func (s *suite) addrOf(impl implementation, w work, requests [][]byte) string {
	key := fmt.Sprint(impl.name, w.name, len(requests))
	addr, started := s.addrs[key]
	if !started {
		addr = impl.start(s, w.backend(s).Addr(), len(requests))
		s.must(warmUp(addr, w, requests))
		s.addrs[key] = addr
	}
	return addr
}
