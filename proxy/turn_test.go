package proxy

import (
	"testing"
	"time"
)

// Turns that are of no use become rare, and stay: a client whose requests begin to come fast is noticed.
func TestTurn_BecomesRareAndComesBack(t *testing.T) {
	t.Parallel()
	taken := func(u *turn, reads int, found bool) (n int) {
		for range reads {
			if u.take(turnCompany) {
				n++
				u.learn(found)
			}
		}
		return n
	}
	var u turn
	if n := taken(&u, 100, true); n != 100 {
		t.Errorf("%d turns for 100 reads that found something, want all", n)
	}
	if n := taken(&u, 63*100, false); n < 90 || n > 110 {
		t.Errorf("%d turns for 6300 reads that found nothing, want about 100", n)
	}
	taken(&u, 63, true)
	if n := taken(&u, 100, true); n != 100 {
		t.Errorf("%d turns for 100 reads that find something again, want all", n)
	}
}

// Where nobody else is at work a turn would only wake a thread.
func TestTurn_NeedsCompany(t *testing.T) {
	t.Parallel()
	var u turn
	if u.take(turnCompany-1) || !u.take(turnCompany) {
		t.Error("a turn without company, or none with it")
	}
}

// A read of a link tells whether there was something at once.
func TestLink_TellsWhetherItWaited(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	var buf [16]byte
	if _, err := far.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	await(t, "the byte", func() bool { return l.look() == sightData })
	if n, err := l.Read(buf[:]); n != 1 || err != nil || l.waited {
		t.Errorf("got %d, %v, waited %v; want no wait", n, err, l.waited)
	}
	read := make(chan error, 1)
	go func() {
		_, err := l.Read(buf[:])
		read <- err
	}()
	time.Sleep(100 * time.Millisecond) // The read finds nothing, and has no other sign.
	if _, err := far.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || !l.waited {
		t.Errorf("got %v, waited %v; want a wait", err, l.waited)
	}
}
