package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// Whatever is encoded in whatever order, and however the peer changes the table's size meanwhile, the library's decoder
// finds the same fields.
func TestFieldTable_DecodesToTheSame(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		var table fieldTable
		table.init()
		var got []string
		decoder := hpack.NewDecoder(maxFieldTable, func(f hpack.HeaderField) { got = append(got, f.Name+": "+f.Value) })
		for range 60 {
			if random.IntN(6) == 0 {
				for range 1 + random.IntN(3) {
					table.resize([]uint32{0, 40, 100, 500, 4096, 1 << 20}[random.IntN(6)])
				}
			}
			status := []int{200, 204, 103, 404, 502, 599}[random.IntN(6)]
			want, lines := []string{fmt.Sprintf(":status: %d", status)}, ""
			for range random.IntN(30) {
				name, value := someField(random)
				lines += name + ":" + strings.Repeat(" ", random.IntN(3)) + value + "\r\n"
				want = append(want, strings.ToLower(name)+": "+value)
			}
			block := table.appendLines(table.appendStatus(nil, status), []byte(lines))
			got = nil
			if _, err := decoder.Write(block); err != nil {
				t.Fatalf("%q: %v", lines, err)
			}
			if err := decoder.Close(); err != nil {
				t.Fatalf("%q: %v", lines, err)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("got %q, want %q", got, want)
			}
			if table.size > table.max || len(table.entries) > maxFieldTable/entryOverhead {
				t.Fatalf("%d entries of %d bytes, at most %d", len(table.entries), table.size, table.max)
			}
		}
	}
}

// someField makes a field that came before, or one that did not.
func someField(random *rand.Rand) (name, value string) {
	names := []string{"Date", "content-type", "Server", "Set-Cookie", "X-Custom", "ETag", "content-length", "Vary", "x-y"}
	name = names[random.IntN(len(names))]
	switch random.IntN(4) {
	case 0:
		return name, fmt.Sprint(random.IntN(5))
	case 1:
		return name, strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(900))
	case 2:
		return fmt.Sprintf("X-Field-%d", random.IntN(300)), "same"
	}
	return name, fmt.Sprint(random.Uint64())
}

// What HTTP/2 forbids is left out, and cookies are never put into a table.
func TestFieldTable_LeavesOut(t *testing.T) {
	t.Parallel()
	var table fieldTable
	table.init()
	if b := table.appendLines(nil, []byte("X: a\x01b\r\nnothing\r\n: x\r\n\r\n")); len(b) > 0 {
		t.Errorf("encoded %q", b)
	}
	for range 4 {
		b := table.appendLines(nil, []byte("Set-Cookie: session=1\r\n"))
		if b[0]&0xf0 != literalNever {
			t.Errorf("a cookie is encoded as %x", b)
		}
	}
	if len(table.entries) > 0 {
		t.Errorf("entries: %v", table.entries)
	}
	once := table.appendLine(nil, []byte("x-a: 1"))
	twice := table.appendLine(nil, []byte("x-a: 1"))
	again := table.appendLine(nil, []byte("x-a: 1"))
	if len(table.entries) != 1 || bytes.Equal(once, again) || len(twice) < 2 || len(again) != 1 {
		t.Errorf("%x, %x, %x with %d entries", once, twice, again, len(table.entries))
	}
}
