package cache

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// What somebody writes wrongly concerns the host that it was written for, is counted by its cause, and named in the log
// once. Everybody else's routes, and the rest of the same list, go on.
func TestBadInput_ConcernsItsOwnHostOnly(t *testing.T) {
	t.Parallel()
	const megabyte = 1 << 20
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprintf("http://10.1.%d.%d:80", i>>8&255, i&255)
	}
	for name, tt := range map[string]struct {
		list   []string // behind the identifier and one good element
		kind   string   // of the key, if it is no list
		usable int      // elements of the list that a request may go to
		cause  string   // sluice_route_invalid_entries_total; "" where nothing is wrong
		named  string   // in the log
	}{
		"wrong type":               {kind: "hash", cause: "wrong_type", named: "wrong type"},
		"a megabyte in an element": {list: []string{"http://" + strings.Repeat("x", megabyte)}, usable: 1, cause: "bad_host", named: "invalid host"},
		"a megabyte of elements":   {list: strings.Split(strings.Repeat("http://10.0.0.2:8080/a-long-path-to-nowhere ", megabyte/44)[:megabyte/44*44-1], " "), usable: 1024, cause: "too_long", named: "more than 1024 backends"},
		"100 000 elements":         {list: many, usable: 1024, cause: "too_long", named: "more than 1024 backends"},
		"bytes":                    {list: []string{"http://10.0.0.2\x00:80", "\xff\xfe", "http://10.0.0.2:80\r\nX-Evil: 1"}, usable: 1, cause: "bad_host", named: "invalid host"},
		"a weight of NaN":          {list: []string{"http://10.0.0.2:80#weight=NaN"}, usable: 2, cause: "unknown_option", named: "weight=NaN"},
		"an endless weight":        {list: []string{"http://10.0.0.2:80#weight=99999999999999999999"}, usable: 2, cause: "unknown_option", named: "weight=999"},
		"no host":                  {list: []string{"http://", "http://:80"}, usable: 1, cause: "no_host", named: "no host"},
		"nothing":                  {list: []string{""}, usable: 1, cause: "no_host", named: "no host"},
		"a port of a million":      {list: []string{"http://10.0.0.2:1000000"}, usable: 1, cause: "bad_port", named: "invalid port"},
		"another scheme":           {list: []string{"unix:///run/app.sock"}, usable: 1, cause: "bad_scheme", named: "scheme"},
		"ourselves":                {list: []string{"http://127.0.0.9:80"}, usable: 1, cause: "own_listener", named: "listener of this server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			s.Do("RPUSH", "frontend:good.example", "good", "http://10.0.0.1:80")
			if tt.kind == "hash" {
				s.Do("HSET", "frontend:bad.example", "a", "b")
			} else {
				list := append([]string{"bad", "http://10.0.0.1:80"}, tt.list...)
				for len(list) > 0 {
					n := min(len(list), 10_000)
					s.Do(append([]string{"RPUSH", "frontend:bad.example"}, list[:n]...)...)
					list = list[n:]
				}
			}
			var log logtest.Buffer
			c := start(t, Options{
				Driver: []string{s.URL()}, Log: log.Logger(), Own: func(a string) bool { return a == "127.0.0.9:80" },
			})
			for range 3 {
				wantAnswer(t, c, "good.example", "http://10.0.0.1:80")
				usable := 0
				if r, err := c.Lookup([]byte("bad.example"), testClient); err != nil {
					t.Fatalf("bad.example: %v", err)
				} else if f := r.Frontend(); f != nil {
					for i := range f.Backends {
						if f.Backends[i].Err == nil {
							usable++
						}
					}
				}
				if usable != tt.usable {
					t.Fatalf("usable backends: got %d, want %d", usable, tt.usable)
				}
				c.flushed() // All is read again: what was said is not repeated.
			}
			if n := c.m.set.GetOrCreateCounter(fmt.Sprintf("sluice_route_invalid_entries_total{cause=%q}", tt.cause)).Get(); n == 0 {
				t.Errorf("nothing was counted as %s", tt.cause)
			}
			text := log.String()
			if n := strings.Count(text, "frontend=bad.example"); n == 0 || n > max(1, len(tt.list)) || !strings.Contains(text, tt.named) {
				t.Errorf("logged %d times, want one line for each mistake with %q:\n%.2000s", n, tt.named, text)
			}
			if strings.Contains(text, "good.example") {
				t.Errorf("the log names a good host:\n%.2000s", text)
			}
			if len(text) > 8<<10 {
				t.Errorf("the log has %d bytes", len(text))
			}
		})
	}
}

// A key that the store's user may not read answers for its host alone, with an error that passes when the right is given.
func TestBadInput_ReadRefused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:good.example", "good", "http://10.0.0.1:80")
	s.Do("RPUSH", "frontend:secret.example", "secret", "http://10.0.0.2:80")
	s.Do("ACL", "SETUSER", "edge", "on", ">pass", "~frontend:[^s]*", "~dead:*", "~tls:*", "~route:*", "~hchecker_ping", "&*", "+@all")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{"redis://edge:pass@" + s.Addr()}, Log: log.Logger()})
	for range 3 {
		wantAnswer(t, c, "good.example", "http://10.0.0.1:80")
		wantAnswer(t, c, "secret.example", "unavailable")
	}
	if n := strings.Count(log.String(), "secret.example"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
	s.Do("ACL", "SETUSER", "edge", "~frontend:*")
	awaitAnswer(t, c, "secret.example", "http://10.0.0.2:80")
}

// Names that no Host header can have are keys like any others to Redis: their changes are announced, and mean nothing.
func TestBadInput_BinaryNames(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:good.example", "good", "http://10.0.0.1:80")
	c := start(t, Options{Driver: []string{s.URL()}})
	wantAnswer(t, c, "good.example", "http://10.0.0.1:80")
	for _, name := range []string{"", "\x00", "\xff\xfe\r\n", "*", "**", "*.", "a b", strings.Repeat("n", 1<<20), ";", "a.example;1"} {
		for _, key := range []string{"frontend:", "dead:", "tls:", "route:"} {
			s.Do("SET", key+name, "x")
			s.Do("DEL", key+name)
		}
	}
	s.Do("RPUSH", "frontend:good.example", "http://10.0.0.2:80")
	awaitAnswer(t, c, "good.example", "http://10.0.0.1:80 http://10.0.0.2:80")
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.spaces {
		for _, e := range c.spaces[i].members {
			if e.name() != "good.example" && e.name()[0] != '*' {
				t.Errorf("%.40q is kept", e.name())
			}
		}
	}
	for name := range c.pushed.current {
		if len(name) > 300 {
			t.Errorf("a name of %d bytes is remembered", len(name))
		}
	}
}
