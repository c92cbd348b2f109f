package proxy

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quic-go/qpack"
)

// FuzzH3Section: whatever a field section holds, what becomes of it is refused, or is a head of HTTP/1.1 with these
// fields and no others: no value ends its line.
func FuzzH3Section(f *testing.F) {
	var section bytes.Buffer
	enc := qpack.NewEncoder(&section)
	for _, field := range []qpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "a.example"},
		{Name: ":path", Value: "/p?q"},
		{Name: "x", Value: "y"},
		{Name: "cookie", Value: "a=1"},
		{Name: "cookie", Value: "b=2"},
		{Name: "content-length", Value: "5"},
		{Name: "user-agent", Value: "fuzz"},
	} {
		_ = enc.WriteField(field) // A buffer never fails.
	}
	f.Add(section.Bytes())
	f.Add([]byte{0, 0, 0xd1, 0xd7, 0xc1, 0x50, 0x03, 'a', '\r', '\n'})
	f.Add([]byte{0, 0, 0x27, 0x00, 'x', 0x01, 'y'})
	const limit = 4096
	rules := headRules{maxBytes: 4 * limit, maxFields: 1000}
	f.Fuzz(func(t *testing.T, block []byte) {
		want, cookies := 1, 0 // With Host.
		next := qpack.NewDecoder().Decode(block)
		for field, err := next(); err == nil; field, err = next() {
			switch {
			case field.Name == "cookie":
				cookies = 1
			case field.Name != "host" && field.Name[0:min(1, len(field.Name))] != ":":
				want++
			}
		}
		for _, chunked := range []bool{false, true} {
			var h streamHead
			h.begin(nil, 4*limit, false)
			if err := decodeSection(block, limit, &h); err != nil || !h.sound() || h.authority == "" && h.host == "" {
				return
			}
			fields := want + cookies
			if chunked && !h.sized {
				fields++
			}
			h.end(chunked)
			var q request
			n, bad := q.scan(h.dst, &rules)
			if bad != 0 {
				continue
			}
			if n != len(h.dst) || len(q.fields) != fields {
				t.Fatalf("%d of %d bytes, %d fields, want %d: %q", n, len(h.dst), len(q.fields), fields, h.dst)
			}
		}
	})
}

// FuzzH3Frames: whatever comes on a stream, its frames are those that are there, and nobody reads beyond the end.
func FuzzH3Frames(f *testing.F) {
	f.Add([]byte{0x00, 0x02, 'h', 'i', 0x40, 0x21, 0x00, 0x01, 0x03, 1, 2, 3}, byte(1))
	f.Add([]byte{0x00, 0xc0, 0, 0, 0, 0, 0, 0, 9, 'x'}, byte(3))
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		d := h3Reader{r: bytes.NewReader(stream), buf: make([]byte, int(size)+1)}
		rest := uint64(len(stream))
		for {
			_, length, err := d.frame()
			if err != nil {
				var fault *h3Fault
				if !errors.Is(err, io.EOF) && !errors.As(err, &fault) {
					t.Fatal(err)
				}
				return
			}
			if size%2 == 0 {
				err = d.skip(length)
			} else if length <= rest {
				var p []byte
				if p, err = d.payload(int(length)); err == nil && (uint64(len(p)) != length || !bytes.Contains(stream, p)) {
					t.Fatalf("%d bytes of %d", len(p), length)
				}
			} else {
				return
			}
			if (err == nil) != (length <= rest) && length > rest {
				t.Fatalf("a frame of %d bytes in a stream of %d: %v", length, rest, err)
			}
			if err != nil {
				return
			}
		}
	})
}
