package cache

import (
	"net/netip"
	"testing"
)

func TestMissLimit(t *testing.T) {
	t.Parallel()
	l := newMissLimit(120)
	one, near, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.200"), netip.MustParseAddr("198.51.100.1")
	if l.slot(one) != l.slot(near) {
		t.Fatal("two addresses of one /24 have counters of their own")
	}
	if l.slot(one) == l.slot(far) {
		t.Skip("the seed put two networks on one counter")
	}
	spend := func(client netip.Addr, now int64) (n int) {
		for l.allows(client, now) {
			l.charge(client, now)
			n++
		}
		return n
	}
	const now = int64(5e9)
	if n := spend(one, now); n != maxClientMissRate {
		t.Errorf("one network may miss %d times, want %d", n, maxClientMissRate)
	}
	if l.allows(near, now) {
		t.Error("its neighbour is not limited with it")
	}
	if n := spend(far, now); n != maxClientMissRate {
		t.Errorf("another network may miss %d times, want %d", n, maxClientMissRate)
	}
	third := netip.MustParseAddr("2001:db8::1")
	if n := spend(third, now); n != 20 && n != 0 {
		t.Errorf("a third may miss %d times, want what is left of 120", n)
	}
	if n := spend(one, now+1e9); n != maxClientMissRate {
		t.Errorf("in the next second: %d times, want %d", n, maxClientMissRate)
	}
	if free := newMissLimit(-1); !free.allows(one, now) {
		t.Error("a negative rate limits")
	}
	if !l.allows(netip.Addr{}, now+2e9) {
		t.Error("a client without an address is refused from the start")
	}
}

func TestRecent_ForgetsAndIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecent[int](10, 3)
	r.put("a", 1, 100)
	if v, ok := r.get("a", 109); !ok || v != 1 {
		t.Error("forgotten within its span")
	}
	if _, ok := r.get("a", 121); ok {
		t.Error("remembered beyond twice its span")
	}
	for i, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		r.put(k, i, 200)
	}
	if n := len(r.current) + len(r.before); n > 6 {
		t.Errorf("%d keys are remembered, want at most 6", n)
	}
	if _, ok := r.get("i", 200); !ok {
		t.Error("the last key was forgotten")
	}
}
