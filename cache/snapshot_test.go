package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// snapshotOf returns the bytes of a small snapshot and the store that it is of.
func snapshotOf(t testing.TB, lists map[string][]string, derived map[string]string) ([]byte, storeID) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot")
	c := offline(t, path)
	c.up()
	for name, list := range lists {
		settleList(c, name, list...)
	}
	for name, target := range derived {
		e, v := settleList(c, name)
		c.bind(e, v, c.table.findString(target), c.gen.Load(), nil, never)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, identifyStore(c.o.Driver)
}

// offline returns a cache whose store is never asked, as it is not started.
func offline(t testing.TB, path string) *Cache {
	t.Helper()
	c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// settleList gives name a list, or none, as a reading of the store does.
func settleList(c *Cache, name string, list ...string) (*entry, *value) {
	r := reading{list: list}
	f := c.parseReading(name, &r)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settle(&flight[settled]{name: name, epoch: c.epoch.Load()}, &r, f)
}

var smallLists = map[string][]string{
	"a.example":      {"a", "http://10.0.0.1:80", "https://b.internal#sni=c&weight=3"},
	"*.pool.example": {"pool", "10.0.0.2"},
	"alone.example":  {"only the identifier"},
	"[::1]":          {"", "http://[::1]:8080"},
}

func TestSnapshot_StartWithoutTheStoreServesWhatWasKnown(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.2")
	s.Do("RPUSH", "frontend:short.example", "short", "10.0.0.3")
	s.Do("PEXPIRE", "frontend:short.example", "2500")
	path := filepath.Join(t.TempDir(), "snapshot")
	o := Options{Driver: []string{s.URL()}, Snapshot: path}
	first := start(t, o)
	awaitAnswer(t, first, "a.example", "10.0.0.1")
	awaitAnswer(t, first, "x.pool.example", "10.0.0.2")
	awaitAnswer(t, first, "short.example", "10.0.0.3")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	var log logtest.Buffer
	o.Log = log.Logger()
	second := startUnready(t, o)
	if !second.Ready() {
		t.Error("not ready although a snapshot was loaded")
	}
	wantAnswer(t, second, "a.example", "10.0.0.1")
	wantAnswer(t, second, "x.pool.example", "10.0.0.2")
	wantAnswer(t, second, "new.example", "unavailable")
	if n := second.m.staleDown.Get(); n != 2 {
		t.Errorf("stale answers: got %d, want 2", n)
	}
	if !strings.Contains(log.String(), "snapshot loaded") {
		t.Errorf("the loading was not logged:\n%s", log.String())
	}
	awaitAnswer(t, second, "short.example", "unavailable") // its own end holds, whatever the file says
	s.Restart()
	s.Do("DEL", "frontend:a.example")
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.9")
	s.Do("RPUSH", "frontend:*.pool.example", "pool", "10.0.0.8")
	eventually(t, "the watch is up", func() bool { return second.epoch.Load()&1 == 1 })
	awaitAnswer(t, second, "a.example", "10.0.0.9")
	awaitAnswer(t, second, "x.pool.example", "10.0.0.8")
}

func TestSnapshot_IsReadAgainBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	path := filepath.Join(t.TempDir(), "snapshot")
	o := Options{Driver: []string{s.URL()}, Snapshot: path}
	c := start(t, o)
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s.Do("LSET", "frontend:a.example", "1", "10.0.0.2")
	c = startUnready(t, o)
	eventually(t, "the watch is up", func() bool { return c.epoch.Load()&1 == 1 })
	// No poll: with the store at hand, the first answer is the store's, unless it took over 50 ms.
	if got := answer(c, "a.example"); got != "10.0.0.2" && c.m.staleSlow.Get() == 0 {
		t.Errorf("the first answer is %q, want the store's", got)
	}
}

func TestSnapshot_IsWrittenOnChangeAndNotOtherwise(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("RPUSH", "frontend:a.example", "a", "10.0.0.1")
	path := filepath.Join(t.TempDir(), "snapshot")
	c := start(t, Options{Driver: []string{s.URL()}, Snapshot: path})
	awaitAnswer(t, c, "a.example", "10.0.0.1")
	eventually(t, "the snapshot is written", func() bool { return c.m.snapshotWrites.Get() == 1 })
	first, err := os.Stat(path)
	if err != nil || first.Mode().Perm() != 0o600 {
		t.Fatalf("the file: %v, %v", first, err)
	}
	if n := c.saved.save(context.Background(), 1); n != 0 {
		t.Errorf("%d bytes were written although nothing changed", n)
	}
	s.Do("RPUSH", "frontend:a.example", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.1 10.0.0.2")
	eventually(t, "the change is written", func() bool { return c.m.snapshotWrites.Get() == 2 })
	second, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// The clock of files may be a tick behind.
	if pause := second.ModTime().Sub(first.ModTime()); pause < snapshotPause-100*time.Millisecond {
		t.Errorf("it was written again after %v, want at least %v", pause, snapshotPause)
	}
	if names, _ := filepath.Glob(path + ".*"); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestSnapshot_RestoresEachRoute(t *testing.T) {
	t.Parallel()
	data, _ := snapshotOf(t, smallLists, map[string]string{"x.pool.example": "*.pool.example"})
	path := filepath.Join(t.TempDir(), "snapshot")
	write(t, path, data)
	c := offline(t, path)
	c.saved.load()
	for name, list := range smallLists {
		e := c.table.findString(name)
		if e == nil || e.value.Load().frontend == nil || !e.value.Load().frontend.sameList(list) {
			t.Errorf("%s was not restored", name)
		}
	}
	wantAnswer(t, c, "x.pool.example", "10.0.0.2")
	wantAnswer(t, c, "a.example", "http://10.0.0.1:80 https://b.internal#sni=c&weight=3")
}

func TestSnapshot_NoMoreThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	data, _ := snapshotOf(t, smallLists, nil)
	path := filepath.Join(t.TempDir(), "snapshot")
	write(t, path, data)
	c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path, MaxHosts: 2, MaxBackends: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.saved.load()
	if n := len(c.spaces[exactSpace].members); n != 2 {
		t.Errorf("%d names were restored, want 2", n)
	}
	for _, e := range c.spaces[exactSpace].members {
		if n := len(e.value.Load().frontend.Backends); n > 1 {
			t.Errorf("%s has %d backends, want at most 1", e.name(), n)
		}
	}
}

func TestSnapshot_TruncatedAtEachByteIsRefused(t *testing.T) {
	t.Parallel()
	data, store := snapshotOf(t, smallLists, map[string]string{"x.pool.example": "*.pool.example"})
	for n := range data {
		if _, _, err := parseSnapshot(data[:n], store); err == nil || errors.Is(err, errForeignFile) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := parseSnapshot(append(data, 0), store); err == nil {
		t.Error("a byte too many was accepted")
	}
	if _, _, err := parseSnapshot(data, store); err != nil {
		t.Errorf("the whole file: %v", err)
	}
}

func TestSnapshot_DamageOfEachByteIsRefused(t *testing.T) {
	t.Parallel()
	data, store := snapshotOf(t, smallLists, nil)
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			damaged := bytes.Clone(data)
			damaged[i] ^= bit
			if _, _, err := parseSnapshot(damaged, store); err == nil {
				t.Fatalf("byte %d changed: accepted", i)
			}
		}
	}
}

func TestSnapshot_RefusedWithAReason(t *testing.T) {
	t.Parallel()
	data, _ := snapshotOf(t, smallLists, nil)
	newer := bytes.Clone(data)
	newer[len(snapshotMagic)]++
	older := bytes.Clone(data)
	older[len(snapshotMagic)] = 0
	for name, test := range map[string]struct {
		data []byte
		want string
		kept bool // the file is not ours to replace
	}{
		"foreign":     {[]byte("{\"frontend:a\": []}"), "not a snapshot", true},
		"empty":       {nil, "ends after 0 bytes", false},
		"cut":         {data[:len(data)-1], "should hold", false},
		"damaged":     {append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1), "checksum", false},
		"newer":       {newer, "it has format 3, and this program reads formats 1 to 2", false},
		"no version":  {older, "it has format 0", false},
		"other store": {withStore(data), "another store", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "snapshot")
			write(t, path, test.data)
			var log logtest.Buffer
			c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path, Log: log.Logger()})
			if err != nil {
				t.Fatal(err)
			}
			c.saved.load()
			if !strings.Contains(log.String(), "snapshot is not used") || !strings.Contains(log.String(), test.want) {
				t.Errorf("the log does not say %q:\n%s", test.want, log.String())
			}
			if c.Ready() || len(c.spaces[exactSpace].members) > 0 {
				t.Error("something of it was used")
			}
			c.up()
			settleList(c, "new.example", "new", "10.0.0.1")
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if kept := bytes.Equal(now, test.data); kept != test.kept {
				t.Errorf("the file was kept: %v, want %v", kept, test.kept)
			}
		})
	}
}

// withStore returns data with another store in a header that is right otherwise.
func withStore(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(snapshotMagic)+4]++
	littleEndian.PutUint32(data[snapshotHeaderBytes-4:], crc32.Checksum(data[:snapshotHeaderBytes-4], castagnoli))
	return data
}

func TestSnapshot_StoreIsKnownWithoutItsPassword(t *testing.T) {
	t.Parallel()
	same := [][]string{
		{"redis://127.0.0.1:6379/1#p"}, {"redis://:secret@127.0.0.1:6379/1#p"}, {"redis://user:pw%40@127.0.0.1:6379/1#p"},
	}
	for _, d := range same {
		if identifyStore(d) != identifyStore(same[0]) {
			t.Errorf("%q counts as another store than %q", d, same[0])
		}
	}
	for _, d := range [][]string{
		{"redis://127.0.0.1:6380/1#p"},
		{"redis://127.0.0.1:6379/2#p"},
		{"redis://127.0.0.1:6379/1"},
		{"redis:"},
		{"redis://127.0.0.1:6379/1#p", "redis:"},
	} {
		if identifyStore(d) == identifyStore(same[0]) {
			t.Errorf("%q counts as the same store as %q", d, same[0])
		}
	}
}

func TestSnapshot_FolderThatIsMissingIsSaidOnce(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	c, err := New(Options{
		Driver: []string{"redis://127.0.0.1:1"}, Log: log.Logger(),
		Snapshot: filepath.Join(t.TempDir(), "missing", "snapshot"),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.up()
	settleList(c, "a.example", "a", "10.0.0.1")
	for range 3 {
		c.saved.save(context.Background(), 1)
	}
	if n := strings.Count(log.String(), "snapshot is not written"); n != 1 || c.m.snapshotFailures.Get() != 3 {
		t.Errorf("%d lines, %d failures:\n%s", n, c.m.snapshotFailures.Get(), log.String())
	}
}

// TestSnapshot_WritingTakesAFewPercentOfACore measures the pauses between the batches.
func TestSnapshot_WritingTakesAFewPercentOfACore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	c := offline(t, path)
	c.up()
	for i := range 20_000 {
		settleList(c, fmt.Sprintf("h%d.example", i), "id", "http://10.0.0.1:8080")
	}
	encode := func(share int) time.Duration {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		begin := time.Now()
		if err := c.saved.encode(context.Background(), &snapshotWriter{file: f}, share); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	full := min(encode(1), encode(1), encode(1))
	if paced := encode(snapshotShare); paced < full*snapshotShare/2 {
		t.Errorf("writing took %v at full speed and %v with pauses", full, paced)
	}
}

// TestSnapshot_ConcurrentChanges writes while names come, change and go.
func TestSnapshot_ConcurrentChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path, MaxHosts: 2000})
	if err != nil {
		t.Fatal(err)
	}
	c.up()
	settleList(c, "kept.example", "kept", "10.0.0.1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			name := fmt.Sprintf("h%d.example", rand.IntN(4000))
			settleList(c, name, []string{name, "10.0.0.1"}[:rand.IntN(3)]...)
			c.table.findString("kept.example").touch(&c.laps[exactSpace])
		}
	}()
	for range 20 {
		c.changes.Add(1)
		c.saved.save(context.Background(), 1)
		other := offline(t, path)
		other.saved.load()
		if other.table.findString("kept.example") == nil {
			t.Error("a name that was there all the time is missing")
		}
	}
	cancel()
	<-done
}

func FuzzParseSnapshot(f *testing.F) {
	data, store := snapshotOf(f, smallLists, map[string]string{"x.pool.example": "*.pool.example"})
	f.Add(data[snapshotHeaderBytes:], uint64(5))
	f.Add([]byte{recordList, 1, 'a', 0, 1, 1, 'x'}, uint64(1))
	f.Add([]byte{recordDerived, 1, 'a', 1, '*', recordList, 1, 'b', 255, 255, 255, 255, 255, 255, 255, 255, 127, 0}, uint64(2))
	f.Add([]byte{recordPolicy, 1, 'a', 0, 1, 4, 'h', 's', 't', 's', 1, '1', recordIssuer, 1, 'x', recordCertificate, 1, 'a', 0, 1, 0, 1, 'y', 1, 'z'}, uint64(3))
	f.Add([]byte{recordCertificate, 1, 'a', 0, 1, 0, 1, 'y', 1, 'z'}, uint64(1))
	f.Add([]byte{recordList, 1, 'a', 0, 255, 255, 255, 255, 255, 255, 255, 255, 127, 0}, uint64(1))
	f.Fuzz(func(t *testing.T, body []byte, records uint64) {
		// The checksums are made right, so that the records are reached.
		h := snapshotHeader{store: store, records: records, bytes: uint64(len(body)), sum: crc32.Checksum(body, castagnoli)}
		_, parsed, err := parseSnapshot(append(h.append(nil), body...), store)
		if err != nil {
			return
		}
		c := offline(t, "")
		c.o.SnapshotKeys = true
		r := c.restore(parsed)
		n := len(c.spaces[exactSpace].members) + len(c.spaces[derivedSpace].members)
		hashes := len(c.policies.present) + len(c.certificates.present)
		if n != r.lists+r.derived || hashes != r.policies+r.certificates || uint64(n+hashes) > records {
			t.Fatalf("%d names and %d hashes of %d records, said to be %+v", n, hashes, records, r)
		}
		for name := range c.certificates.present {
			_ = serialOf(c, name) // what is no certificate is none, and no panic
		}
		if _, _, err := parseSnapshot(body, store); err == nil {
			t.Fatal("a body without a header was accepted")
		}
	})
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkSnapshot loads and writes a million routes.
func BenchmarkSnapshot(b *testing.B) {
	const n = 1_000_000
	path := filepath.Join(b.TempDir(), "snapshot")
	c := offline(b, path)
	c.up()
	for i := range n {
		settleList(c, string(hostName(nil, i)), "customer", fmt.Sprintf("http://10.%d.%d.%d:8080", i>>16, i>>8&255, i&255),
			fmt.Sprintf("http://11.%d.%d.%d:8080", i>>16, i>>8&255, i&255))
	}
	b.Run("write/routes=1M", func(b *testing.B) {
		for b.Loop() {
			c.changes.Add(1)
			b.SetBytes(c.saved.save(context.Background(), 1))
		}
	})
	b.Run("load/routes=1M", func(b *testing.B) {
		for b.Loop() {
			other := offline(b, path)
			other.saved.load()
			if len(other.spaces[exactSpace].members) != n {
				b.Fatal("not all were loaded")
			}
		}
	})
}
