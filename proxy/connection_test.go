package proxy

import (
	"strings"
	"testing"
)

// Connection is read element by element, and every element costs a comparison with every field: their number is bounded,
// over all Connection fields. Close wins wherever it stands.
func TestRequest_ConnectionElements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		fields    []string
		want      Kind
		keepAlive bool
	}{
		{"as many as allowed", []string{strings.Repeat("a,", maxConnectionOptions-1) + "b"}, KindNone, true},
		{"one more", []string{strings.Repeat("a,", maxConnectionOptions) + "b"}, KindBadRequest, true},
		{"empty ones count", []string{strings.Repeat(",", maxConnectionOptions)}, KindBadRequest, true},
		{"in two fields", []string{strings.Repeat("a,", maxConnectionOptions/2), strings.Repeat("a,", maxConnectionOptions/2)}, KindBadRequest, true},
		{"close after", []string{"keep-alive", "x, close"}, KindNone, false},
		{"close before", []string{"close", "keep-alive"}, KindNone, false},
	} {
		for _, version := range []string{"1.0", "1.1"} {
			head := "GET / HTTP/" + version + "\r\nHost: a.example\r\n"
			if version == "1.0" && tt.keepAlive {
				head += "Connection: keep-alive\r\n"
				if tt.want == KindNone {
					continue // One element more than the case says.
				}
			}
			for _, f := range tt.fields {
				head += "Connection: " + f + "\r\n"
			}
			head += "\r\n"
			var r request
			r.reset()
			rules := headRules{maxBytes: 1 << 10, maxFields: 10}
			if n, bad := r.scan([]byte(head), &rules); n != len(head) || bad != 0 {
				t.Fatal(tt.name, n, bad)
			}
			if got := r.judge(); got != tt.want || got == KindNone && r.keepAlive != tt.keepAlive {
				t.Errorf("%s, HTTP/%s: got %q and keepAlive %v, want %q and %v", tt.name, version, got, r.keepAlive, tt.want, tt.keepAlive)
			}
		}
	}
}
