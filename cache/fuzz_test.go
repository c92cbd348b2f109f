package cache

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

func FuzzAppendHost(f *testing.F) {
	for _, seed := range []string{"www.Example.com:80", "[::1]:443", "a..b", "*.a", "a;b", "__ping__", ".", "a:", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		kept := bytes.Clone(raw)
		host, err := AppendHost(nil, raw)
		if !bytes.Equal(raw, kept) {
			t.Fatalf("the input %q was changed to %q", kept, raw)
		}
		if err != nil {
			if len(host) != 0 {
				t.Fatalf("error %v and yet %q", err, host)
			}
			return
		}
		again, err := AppendHost(nil, host)
		if err != nil || !bytes.Equal(again, host) {
			t.Fatalf("%q became %q, and that %q, %v", raw, host, again, err)
		}
		if strings.Trim(string(host), "abcdefghijklmnopqrstuvwxyz0123456789._-[]:") != "" || len(host) > maxHostBytes {
			t.Fatalf("%q became %q", raw, host)
		}
	})
}

func FuzzParseFrontend(f *testing.F) {
	for _, seed := range []string{
		"id", "id\nhttp://10.0.0.1:80", "id\nhttps://a#sni=b&tlsVerify=off\nb:1\n[::1]", "id\n\nftp://a\n//@:/", "\nhttp://%",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list := strings.Split(text, "\n")
		front := parseFrontend("a.example", list, noOwn, func(string, error) {})
		if len(front.Backends) != len(list)-1 || !front.sameList(list) {
			t.Fatalf("%q became %+v", list, front)
		}
		for i := range front.Backends {
			b := &front.Backends[i]
			if b.Err != nil {
				continue
			}
			host, port, err := net.SplitHostPort(b.Address)
			if err != nil || host == "" || !validPort([]byte(port)) {
				t.Fatalf("%q: address %q", b.URL, b.Address)
			}
			if b.Weight < 1 || b.Weight > MaxWeight || b.Key == "" || b.TLS != (b.ServerName != "") {
				t.Fatalf("%q became %+v", b.URL, b)
			}
		}
	})
}

func FuzzParseRoutes(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"frontend:a": ["id", "http://b"]}`, `{"frontend:a": ["id"], "frontend:a": ["id"]}`, `{"tls:a": {}}`, `{"tls:a": {"key": "k"}, "route:*": {"hsts": 1, "x": true}}`, `[`, `{"frontend:a": [1]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseRoutes(data)
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Fatalf("the error does not say where: %v", err)
		}
		if err != nil {
			return
		}
		for name, list := range file.lists {
			if name == "" || len(list) == 0 {
				t.Fatalf("frontend %q has the list %q", name, list)
			}
		}
	})
}
