package cache

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/certtest"
	"sluice/internal/logtest"
	"sluice/internal/redistest"
)

// keyForms returns what would give a key away in a file: its DER, a piece of the number in it, and
// lines of its PEM text.
func keyForms(t testing.TB, p certtest.Pair) [][]byte {
	t.Helper()
	block, _ := pem.Decode([]byte(p.Key))
	if block == nil {
		t.Fatal("the key is no PEM")
	}
	forms := [][]byte{block.Bytes, []byte("PRIVATE KEY"), []byte(base64.StdEncoding.EncodeToString(block.Bytes)[:48])}
	// PKCS #8 of P-256: the number itself is 32 bytes from offset 36.
	return append(forms, block.Bytes[36:52])
}

// A start without the store has policies, and certificates where they are asked for; what changed
// meanwhile counts when the store is back.
func TestSnapshot_HashesServeAStartWithoutTheStore(t *testing.T) {
	t.Parallel()
	for _, keys := range []bool{false, true} {
		t.Run(fmt.Sprintf("keys=%v", keys), func(t *testing.T) {
			t.Parallel()
			r, ca := &redisRoutes{redistest.Start(t)}, certtest.New(t)
			first, second, wild := ca.Issue(t, "a.example"), ca.Issue(t, "a.example"), ca.Issue(t, "*.pool.example")
			first.Certificate += ca.PEM()
			r.set("a.example", "a", "10.0.0.1")
			r.set("*.pool.example", "pool", "10.0.0.2")
			r.setHash("route:a.example", map[string]string{"hsts": "10"})
			r.setHash("route:*.pool.example", map[string]string{"redirectHttps": "true"})
			r.setHash("route:y.pool.example", map[string]string{"canonicalHost": "www.pool.example", "hsts": "off"})
			r.setHash("tls:a.example", fieldsOf(first))
			r.setHash("tls:*.pool.example", fieldsOf(wild))
			path := filepath.Join(t.TempDir(), "snapshot")
			var log logtest.Buffer
			o := Options{Driver: []string{r.URL()}, Snapshot: path, SnapshotKeys: keys, Log: log.Logger(), Policy: map[string]string{"hsts": "20"}}
			c := start(t, o)
			awaitPolicy(t, c, "a.example", "hsts max-age=10")
			awaitPolicy(t, c, "x.pool.example", "redirect 308, hsts max-age=20")
			awaitPolicy(t, c, "y.pool.example", "canonical www.pool.example")
			awaitSerial(t, c, "a.example", first.Serial)
			awaitSerial(t, c, "x.pool.example", wild.Serial)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			held := false
			for _, form := range keyForms(t, first) {
				held = held || bytes.Contains(data, form)
			}
			if info, err := os.Stat(path); err != nil || held != keys || info.Mode().Perm() != 0o600 {
				t.Fatalf("the file holds a key: %v, want %v; %v, %v", held, keys, info, err)
			}

			r.Kill()
			o.Policy = map[string]string{"hsts": "30"} // what a policy leaves out is as the configuration is now
			c = startUnready(t, o)
			wantPolicy(t, c, "a.example", "hsts max-age=10")
			wantPolicy(t, c, "x.pool.example", "redirect 308, hsts max-age=30")
			wantPolicy(t, c, "y.pool.example", "canonical www.pool.example")
			want := map[bool][2]string{true: {first.Serial, wild.Serial}, false: {"none", "none"}}[keys]
			wantSerial(t, c, "a.example", want[0])
			wantSerial(t, c, "x.pool.example", want[1])
			if keys {
				if n := len(c.Certificate("a.example", testClient).Certificate); n != 2 {
					t.Errorf("a chain of %d certificates came back, want 2", n)
				}
			}
			r.Restart()
			r.set("a.example", "a", "10.0.0.1")
			r.set("*.pool.example", "pool", "10.0.0.2")
			r.setHash("route:a.example", map[string]string{"hsts": "11"})
			r.setHash("tls:a.example", fieldsOf(second))
			eventually(t, "the watch is up", func() bool { return c.epoch.Load()&1 == 1 })
			awaitSerial(t, c, "a.example", second.Serial)
			awaitPolicy(t, c, "a.example", "hsts max-age=11")
			awaitPolicy(t, c, "x.pool.example", "hsts max-age=30")
			awaitSerial(t, c, "x.pool.example", "none")
			if strings.Contains(log.String(), "entry is invalid") {
				t.Errorf("something of the snapshot was invalid:\n%s", log.String())
			}
		})
	}
}

// Certificates that were not asked for since the start go on to the next file.
func TestSnapshot_UnusedCertificatesArePassedOn(t *testing.T) {
	t.Parallel()
	ca, path := certtest.New(t), filepath.Join(t.TempDir(), "snapshot")
	first := withCertificates(t, ca, path, "a.example", "b.example")
	data := readFile(t, path)
	for range 2 {
		c := offlineWithKeys(t, path)
		c.saved.load()
		c.changes.Add(1)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, path); len(got) != len(data) {
		t.Errorf("%d bytes became %d", len(data), len(got))
	}
	c := offlineWithKeys(t, path)
	c.saved.load()
	for name, want := range first {
		wantSerial(t, c, name, want)
	}
}

// withCertificates writes a snapshot with a certificate for each name and returns their serials.
func withCertificates(t testing.TB, ca *certtest.Authority, path string, names ...string) map[string]string {
	t.Helper()
	c := offlineWithKeys(t, path)
	serials := map[string]string{}
	for _, name := range names {
		p := ca.Issue(t, name)
		p.Certificate += ca.PEM()
		settleCertificate(t, c, name, p)
		serials[name] = p.Serial
	}
	c.changes.Add(1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return serials
}

// settleCertificate gives a name a certificate as a reading of the store does.
func settleCertificate(t testing.TB, c *Cache, name string, p certtest.Pair) {
	t.Helper()
	content, err := c.parseCertificate(name, fieldsOf(p))
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificates.present[name] = &hash[certificate]{content: content, until: never}
}

func offlineWithKeys(t testing.TB, path string) *Cache {
	t.Helper()
	c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path, SnapshotKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSnapshot_WithKeysIsRefusedWhenOthersMayReadIt(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	for name, test := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"readable by the group": {func(path string) error { return os.Chmod(path, 0o640) }, "its mode is 0640"},
		"writable by others":    {func(path string) error { return os.Chmod(path, 0o602) }, "its mode is 0602"},
		"another user's":        {func(path string) error { return os.Chown(path, 65534, -1) }, "it belongs to user 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "snapshot")
			withCertificates(t, ca, path, "a.example")
			if err := test.change(path); os.IsPermission(err) {
				t.Skip("only root can give files away")
			} else if err != nil {
				t.Fatal(err)
			}
			var log logtest.Buffer
			c, err := New(Options{Driver: []string{"redis://127.0.0.1:1"}, Snapshot: path, SnapshotKeys: true, Log: log.Logger()})
			if err != nil {
				t.Fatal(err)
			}
			c.saved.load()
			if c.certificates.count() != 0 || !strings.Contains(log.String(), test.want) {
				t.Errorf("%v certificates were loaded, the log does not say %q:\n%s", c.certificates.count(), test.want, log.String())
			}
		})
	}
}

// Who switches the keys off has none in the file soon.
func TestSnapshot_KeysLeaveTheFileWhenTheyAreSwitchedOff(t *testing.T) {
	t.Parallel()
	ca, path := certtest.New(t), filepath.Join(t.TempDir(), "snapshot")
	withCertificates(t, ca, path, "a.example")
	c := offline(t, path)
	c.saved.load()
	if n := c.certificates.count(); n != 0 {
		t.Errorf("%v certificates were loaded", n)
	}
	if n := c.saved.save(context.Background(), 1); n == 0 {
		t.Fatal("the file was not written anew")
	}
	if n := len(readFile(t, path)); n != snapshotHeaderBytes {
		t.Errorf("%d bytes are left, want a header alone", n)
	}
}

// The file is not written into one that somebody put into its place to read along.
func TestSnapshot_IsWrittenIntoAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "snapshot")
	trap := filepath.Join(folder, "trap")
	write(t, trap, nil)
	for _, temporary := range []string{fmt.Sprintf("%s.%d.tmp", path, os.Getpid())} {
		if err := os.Symlink(trap, temporary); err != nil {
			t.Fatal(err)
		}
	}
	c := offline(t, path)
	c.up()
	settleList(c, "a.example", "a", "10.0.0.1")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if len(readFile(t, trap)) != 0 || len(readFile(t, path)) == 0 {
		t.Error("the snapshot was written through the link")
	}
}

// A file of the first format, which had routes alone.
func TestSnapshot_LoadsTheFirstFormat(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	data, _ := snapshotOf(t, smallLists, map[string]string{"x.pool.example": "*.pool.example"})
	data[len(snapshotMagic)] = 1
	littleEndian.PutUint32(data[snapshotHeaderBytes-4:], crc32.Checksum(data[:snapshotHeaderBytes-4], castagnoli))
	write(t, path, data)
	c := offline(t, path)
	c.saved.load()
	wantAnswer(t, c, "x.pool.example", "10.0.0.2")
}

// TestSnapshot_HundredThousandCertificates: a start parses none of them, and equal issuers are held
// once. A tenth of them in the short form.
func TestSnapshot_HundredThousandCertificates(t *testing.T) {
	t.Parallel()
	n, bound := 10_000, 5*time.Second/2
	ca, path := certtest.New(t), filepath.Join(t.TempDir(), "snapshot")
	p := ca.Issue(t, "*.bulk.example")
	p.Certificate += ca.PEM()
	c := offlineWithKeys(t, path)
	content, err := c.parseCertificate("*.bulk.example", fieldsOf(p))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.certificates.present[fmt.Sprintf("h%d.bulk.example", i)] = &hash[certificate]{content: content, until: never}
	}
	c.changes.Add(1)
	begin := time.Now()
	size := c.saved.save(context.Background(), 1)
	written := time.Since(begin)
	if each := size / int64(n); each > 900 {
		t.Errorf("%d bytes for each certificate: is the issuer written each time?", each)
	}
	other := offlineWithKeys(t, path)
	begin = time.Now()
	other.saved.load()
	took := time.Since(begin)
	t.Logf("%d certificates: %d bytes each, written in %v, loaded in %v", n, size/int64(n), written, took)
	if got := other.certificates.count(); got != float64(n) || took > bound {
		t.Errorf("%v certificates came back in %v", got, took)
	}
	wantSerial(t, other, "h1.bulk.example", p.Serial)
}
