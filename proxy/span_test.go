package proxy

import (
	"bytes"
	"strings"
	"testing"
)

// tchar is RFC 9110 §5.6.2, written down a second time.
func tchar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func TestToken_EveryByte(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		if c := byte(i); token[c] != tchar(c) || isToken([]byte{'a', c}) != tchar(c) {
			t.Errorf("byte %#02x: token %v, want %v", c, token[c], tchar(c))
		}
	}
	if isToken(nil) {
		t.Error("nothing is a token")
	}
}

func TestHasControl_EveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	for length := range 26 {
		for at := range length {
			for i := range 256 {
				// 0x80 and 0x20 are the neighbours that the arithmetic on words could confuse.
				for _, around := range []byte{'a', 0x20, 0x80, 0xff} {
					b := bytes.Repeat([]byte{around}, length)
					b[at] = byte(i)
					want := i < 0x20 || i == 0x7f
					if got := hasControl(b); got != want {
						t.Fatalf("%q: got %v, want %v", b, got, want)
					}
					if got := validValue(b); got != (!want || i == '\t') {
						t.Fatalf("value %q: got %v", b, got)
					}
				}
			}
		}
	}
}

func TestEqualFold(t *testing.T) {
	t.Parallel()
	f := func(b, s string, want bool) {
		t.Helper()
		if got := equalFold([]byte(b), s); got != want {
			t.Errorf("%q and %q: got %v, want %v", b, s, got, want)
		}
	}
	f("", "", true)
	f("Keep-Alive", "keep-alive", true)
	f("KEEP-ALIVE", "keep-alive", true)
	f("keep_alive", "keep-alive", false) // A look-alike is another name here.
	f("keep_alive", "keep_alive", true)
	f("keep-alive", "keep_alive", false)
	f("keep-aliv", "keep-alive", false)
	f("\x0bhunked", "chunked", false)
	f("\xe2\x84\xaaeep-alive", "keep-alive", false) // The Kelvin sign folds to k in Unicode.
}

func TestNextElement(t *testing.T) {
	t.Parallel()
	f := func(list string, want ...string) {
		t.Helper()
		var got []string
		rest, more := []byte(list), true
		for more {
			var e []byte
			e, rest, more = nextElement(rest)
			got = append(got, string(e))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
	f("", "")
	f("close", "close")
	f(" close\t", "close")
	f("a,b", "a", "b")
	f("a , b,\tc ", "a", "b", "c")
	f(",a,,", "", "a", "", "")
	f("a b", "a b")
}

func TestHasElement(t *testing.T) {
	t.Parallel()
	f := func(list, name string, want bool) {
		t.Helper()
		if got := hasElement([]byte(list), name); got != want {
			t.Errorf("%q in %q: got %v, want %v", name, list, got, want)
		}
	}
	f("Upgrade", "upgrade", true)
	f("keep-alive, Upgrade", "upgrade", true)
	f("keep-alive,UPGRADE ,x", "upgrade", true)
	f("upgrades", "upgrade", false)
	f("keep-alive upgrade", "upgrade", false)
	f("\"upgrade\"", "upgrade", false)
	f("", "upgrade", false)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	longest := 0
	for name, want := range knownFields {
		longest = max(longest, len(name))
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			if got := classify([]byte(spelling)); got != want {
				t.Errorf("%s: got kind %d, want %d", spelling, got, want)
			}
		}
		for _, other := range []string{name + "x", "x" + name, name[:len(name)-1]} {
			if _, known := knownFields[other]; !known && classify([]byte(other)) != fieldPlain {
				t.Errorf("%s: got kind %d, want plain", other, classify([]byte(other)))
			}
		}
	}
	if longest != maxKnownName {
		t.Errorf("maxKnownName is %d, the longest name has %d bytes", maxKnownName, longest)
	}
}

// Applications read fields through environments in which X-Real-IP and X_Real_IP are one variable.
func TestClassify_LookAlikes(t *testing.T) {
	t.Parallel()
	for name, kind := range knownFields {
		decides := kind == fieldContentLength || kind == fieldTransferEncoding || kind.isForwarding()
		for i := range name {
			if name[i] != '-' {
				continue
			}
			spelling := name[:i] + "_" + name[i+1:]
			want := fieldPlain
			if decides {
				want = fieldLookalike
			}
			if got := classify([]byte(spelling)); got != want {
				t.Errorf("%s: got kind %d, want %d", spelling, got, want)
			}
			if got := classify([]byte(strings.ToUpper(spelling))); got != want {
				t.Errorf("%s in upper case: got kind %d, want %d", spelling, got, want)
			}
		}
	}
}
