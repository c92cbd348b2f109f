package proxy

import (
	"bytes"
	"testing"
)

// Trailers of many streams wait for the writer like bodies do: what backends make large is no flood of the client.
func TestH2Out_TrailersWait(t *testing.T) {
	t.Parallel()
	const streams, size = 100, 4000
	c, _ := newFrameConn(newFrameServer(t), nil, 1)
	c.greeted, c.writing = true, true // The writer is busy with a slow client.
	text := append([]byte("X-Details: "), bytes.Repeat([]byte("\""), size)...)
	var tail head
	if n, bad := tail.scan(append(text, "\r\n\r\n"...), &trailerRules); bad != 0 || n == 0 {
		t.Fatal(bad)
	}
	all := make([]*h2Stream, streams)
	c.mu.Lock()
	for i := range all {
		hs := acquireH2Stream(c, uint32(2*i+1))
		hs.known, hs.open, hs.remoteDone, hs.tail = true, true, true, &tail
		hs.job = h2Job{active: true, last: true}
		c.byID[hs.id], c.lastID, all[i] = hs, hs.id, hs
		c.advance(hs, true)
	}
	c.mu.Unlock()
	if code := c.obey(&h2Frame{kind: framePing, payload: make([]byte, 8)}, now()); code != codeNone {
		t.Errorf("code %d with %d bytes that wait", code, len(c.out))
	}
	for range streams {
		if c.takeOut(nil); len(c.queue) == 0 {
			break
		}
	}
	for _, hs := range all {
		if !hs.localDone {
			t.Fatalf("stream %d never ends", hs.id)
		}
	}
}
