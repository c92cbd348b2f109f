package proxy

import "testing"

// Fields behind the end of a request are a fault of the stream while it is answered, and of the connection once it is
// answered in full, also while the stream's worker has not taken leave of it (RFC 9113 §5.1).
func TestH2In_FieldsBehindTheEnd(t *testing.T) {
	t.Parallel()
	s := newFrameServer(t)
	for _, tt := range []struct {
		answered bool
		want     h2Code
	}{{false, codeNone}, {true, codeStreamClosed}} {
		c, _ := newFrameConn(s, nil, 1)
		hs := acquireH2Stream(c, 1)
		hs.known, hs.remoteDone, hs.localDone = true, true, tt.answered
		c.byID[1], c.lastID, c.dead = hs, 1, true // Nothing is written.
		c.opening = h2Frame{flags: flagEndHeaders | flagEndStream, stream: 1}
		if code := c.gotBlock([]byte{0x82}); code != tt.want {
			t.Errorf("answered %v: code %d, want %d", tt.answered, code, tt.want)
		}
		if reset := len(c.out) > 0; reset == tt.answered {
			t.Errorf("answered %v: reset %v", tt.answered, reset)
		}
	}
}
