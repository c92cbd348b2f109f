package cache

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/redistest"
)

var testClient = netip.MustParseAddr("192.0.2.1")

// routes is where a test writes frontends: one per driver, so that the same tests run on each.
type routes interface {
	driver() string
	set(name string, list ...string)
	del(name string)
	// setHash replaces the hash under a whole key; no fields remove it.
	setHash(key string, fields map[string]string)
}

// eachDriver runs f on every driver.
func eachDriver(t *testing.T, f func(t *testing.T, r routes)) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, &redisRoutes{redistest.Start(t)})
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		f(t, newFileRoutes(t))
	})
}

type redisRoutes struct{ *redistest.Server }

func (r *redisRoutes) driver() string { return r.URL() }

func (r *redisRoutes) set(name string, list ...string) {
	rpush := append([]string{"RPUSH", "frontend:" + name}, list...)
	c := r.Connect()
	defer c.Close()
	for _, command := range [][]string{{"MULTI"}, {"DEL", "frontend:" + name}, rpush, {"EXEC"}} {
		if _, err := c.Do(command...); err != nil {
			panic(err)
		}
	}
}

func (r *redisRoutes) del(name string) { r.Do("DEL", "frontend:"+name) }

func (r *redisRoutes) setHash(key string, fields map[string]string) {
	commands := [][]string{{"MULTI"}, {"DEL", key}, {"EXEC"}}
	if len(fields) > 0 {
		hset := []string{"HSET", key}
		for name, text := range fields {
			hset = append(hset, name, text)
		}
		commands = [][]string{{"MULTI"}, {"DEL", key}, hset, {"EXEC"}}
	}
	c := r.Connect()
	defer c.Close()
	for _, command := range commands {
		if _, err := c.Do(command...); err != nil {
			panic(err)
		}
	}
}

// fileRoutes keeps a routes file in step with what the test wants, by atomic renames.
type fileRoutes struct {
	t     testing.TB
	path  string
	lists map[string][]string
	// hashes by whole key.
	hashes map[string]map[string]string
}

func newFileRoutes(t testing.TB) *fileRoutes {
	r := &fileRoutes{t: t, path: filepath.Join(t.TempDir(), "routes.json"), lists: map[string][]string{}, hashes: map[string]map[string]string{}}
	r.write()
	return r
}

func (r *fileRoutes) driver() string { return "file:" + r.path }

func (r *fileRoutes) set(name string, list ...string) {
	r.lists["frontend:"+name] = list
	r.write()
}

func (r *fileRoutes) del(name string) {
	delete(r.lists, "frontend:"+name)
	r.write()
}

func (r *fileRoutes) setHash(key string, fields map[string]string) {
	r.hashes[key] = fields
	if len(fields) == 0 {
		delete(r.hashes, key)
	}
	r.write()
}

func (r *fileRoutes) write() {
	all := map[string]any{}
	for key, list := range r.lists {
		all[key] = list
	}
	for key, fields := range r.hashes {
		all[key] = fields
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path+".new", data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.path+".new", r.path); err != nil {
		r.t.Fatal(err)
	}
}

// start runs a cache until the test ends and waits until it is ready.
func start(t testing.TB, o Options) *Cache {
	t.Helper()
	c := startUnready(t, o)
	eventually(t, "the cache is ready", c.Ready)
	return c
}

// startUnready runs a cache until the test ends.
func startUnready(t testing.TB, o Options) *Cache {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	return c
}

// run starts a cache, and closes it when the test ends.
func run(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// answer is a lookup in one word: the URLs of the live backends, or the error.
func answer(c *Cache, host string) string {
	return answerOf(c.Lookup([]byte(host), testClient))
}

func answerOf(r Route, err error) string {
	switch {
	case errors.Is(err, ErrUnknownHost):
		return "unknown"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, ErrLookupLimited):
		return "limited"
	case err != nil:
		return err.Error()
	}
	var live []string
	for i := range r.Frontend().Backends {
		if r.Alive(i) {
			live = append(live, r.Frontend().Backends[i].URL)
		}
	}
	return strings.Join(live, " ")
}

// wantAnswer checks one lookup.
func wantAnswer(t testing.TB, c *Cache, host, want string) {
	t.Helper()
	if got := answer(c, host); got != want {
		t.Fatalf("lookup of %s: got %q, want %q", host, got, want)
	}
}

// awaitAnswer polls until a lookup answers as wanted.
func awaitAnswer(t testing.TB, c *Cache, host, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got = answer(c, host); got == want {
			return
		}
	}
	t.Fatalf("lookup of %s: got %q in the end, want %q", host, got, want)
}

// mustLookup returns the route of host.
func mustLookup(t testing.TB, c *Cache, host string) Route {
	t.Helper()
	r, err := c.Lookup([]byte(host), testClient)
	if err != nil {
		t.Fatalf("lookup of %s: %v", host, err)
	}
	return r
}
