package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// directorySettle is how long changes are collected before they count, because a certificate and
	// its key are two files.
	directorySettle = 20 * time.Millisecond
	// directoryPoll is how often the folder is looked through although nothing was announced: network
	// file systems and exhausted inotify watches announce nothing.
	directoryPoll = 10 * time.Second
	// maxDirectoryFile bounds one file.
	maxDirectoryFile = 256 << 10
)

// Directory serves the certificates of a folder by name: "<name>.crt" holds a certificate and its
// chain, "<name>.key" its key, "<name>.ocsp" an answer of OCSP to staple, if there is one. The name
// is that of a host, or "*." and a suffix for all hosts one label below it. Files are read on first
// use and followed. Its methods are safe for concurrent use.
type Directory struct {
	path  string
	limit int
	log   *slog.Logger
	runs  sync.WaitGroup
	stop  context.CancelFunc

	mu    sync.Mutex // guards what follows
	names map[string]*file
	count int // certificates in memory
}

// file is one certificate of a Directory. Directory.mu guards all but what once is about.
type file struct {
	stamp  stamp
	loaded *loading // nil: not read yet
	before *stapled // the last one that could be used; serves when a later one cannot
}

// loading is one reading of the files of a name.
type loading struct {
	once sync.Once
	cert *stapled // nil: they cannot be used
}

// stamp tells versions of the two files apart.
type stamp [3]struct {
	size int64
	at   time.Time
}

// OpenDirectory lists the folder and follows it until Close. At most limit certificates are kept in
// memory; the others are read anew. An error means that the folder cannot be listed.
func OpenDirectory(path string, limit int, log *slog.Logger) (*Directory, error) {
	ctx, stop := context.WithCancel(context.Background())
	d := &Directory{path: path, limit: limit, log: log, stop: stop, names: map[string]*file{}}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(path)
	}
	if err != nil {
		log.Warn("certificates are polled, because their folder cannot be watched", "folder", path, "cause", err)
	}
	// After the watch: what changes in between is announced.
	if err := d.scan(); err != nil {
		stop()
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	d.runs.Go(func() { d.follow(ctx, watcher) })
	return d, nil
}

// Close ends the following. Certificates are served as they are known.
func (d *Directory) Close() {
	d.stop()
	d.runs.Wait()
}

// Certificate returns the certificate for a server name, in lower case and without a final dot: that
// of exactly this name, else that of "*" in place of its first label, each if it can be used and its
// dates hold; else one whose dates do not hold; else nil.
func (d *Directory) Certificate(name string) *tls.Certificate {
	var spare *tls.Certificate
	names := []string{name}
	if i := strings.IndexByte(name, '.'); i > 0 {
		names = append(names, "*"+name[i:])
	}
	for _, n := range names {
		cert := d.get(n)
		if cert == nil {
			continue
		}
		if CheckDates(cert.Leaf, time.Now()) == nil {
			return cert
		}
		if spare == nil {
			spare = cert
		}
	}
	return spare
}

// get returns the certificate of exactly this name, reading it if need be.
func (d *Directory) get(name string) *tls.Certificate {
	d.mu.Lock()
	f := d.names[name]
	if f == nil {
		d.mu.Unlock()
		return nil
	}
	if f.loaded == nil {
		d.makeRoom()
		f.loaded = &loading{}
		d.count++
	}
	l := f.loaded
	d.mu.Unlock()
	l.once.Do(func() {
		cert, err := d.load(name)
		if err != nil {
			d.log.Warn("certificate is not used", "folder", d.path, "name", name, "cause", err)
		} else if dates := CheckDates(cert.Leaf, time.Now()); dates != nil {
			d.log.Warn("certificate is not valid now", "folder", d.path, "name", name, "cause", dates)
		}
		l.cert = cert
	})
	d.mu.Lock()
	s := l.cert
	if s == nil {
		s = f.before
	} else if f.loaded == l {
		f.before = s
	}
	d.mu.Unlock()
	return s.at(time.Now())
}

// makeRoom forgets a certificate, any one, when there are too many. mu is held.
func (d *Directory) makeRoom() {
	if d.count < d.limit {
		return
	}
	for _, f := range d.names {
		if f.loaded != nil {
			f.loaded, f.before = nil, nil
			d.count--
			return
		}
	}
}

func (d *Directory) load(name string) (*stapled, error) {
	chain, err := readBounded(d.file(name, ".crt"))
	if err != nil {
		return nil, err
	}
	key, err := readBounded(d.file(name, ".key"))
	if err != nil {
		return nil, err
	}
	cert, err := Parse(chain, key)
	if err != nil {
		return nil, err
	}
	if err := Covers(cert, name); err != nil {
		return nil, err
	}
	return staple(cert, d.file(name, ".ocsp"), d.log), nil
}

func (d *Directory) file(name, suffix string) string { return filepath.Join(d.path, name+suffix) }

// readBounded reads a file that is not absurdly large.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDirectoryFile {
		return nil, fmt.Errorf("%s is no file, or larger than %d KiB", path, maxDirectoryFile>>10)
	}
	return os.ReadFile(path)
}

// scan lists the folder and forgets what was read of files that changed.
func (d *Directory) scan() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	seen := make(map[string]stamp)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".crt"); ok && name != "" {
			seen[strings.ToLower(name)] = d.stampOf(name)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.names {
		if _, ok := seen[name]; !ok {
			d.unload(f)
			delete(d.names, name)
		}
	}
	for name, s := range seen {
		d.put(name, s)
	}
	return nil
}

// put notes a version of a name's files. mu is held.
func (d *Directory) put(name string, s stamp) {
	f := d.names[name]
	if f == nil {
		f = &file{stamp: s}
		d.names[name] = f
	}
	if f.stamp != s {
		f.stamp = s
		d.unload(f)
	}
}

// unload has the files of f read anew. mu is held.
func (d *Directory) unload(f *file) {
	if f.loaded != nil {
		f.loaded = nil
		d.count--
	}
}

func (d *Directory) stampOf(name string) (s stamp) {
	for i, suffix := range []string{".crt", ".key", ".ocsp"} {
		if info, err := os.Stat(d.file(name, suffix)); err == nil {
			s[i].size, s[i].at = info.Size(), info.ModTime()
		}
	}
	return s
}

// follow looks through the folder when it changes, until ctx ends. watcher may be nil.
func (d *Directory) follow(ctx context.Context, watcher *fsnotify.Watcher) {
	var events chan fsnotify.Event
	if watcher != nil {
		defer watcher.Close()
		events = watcher.Events
		d.runs.Go(func() {
			for range watcher.Errors { // an overflow: the poll finds what was lost
			}
		})
	}
	next := time.NewTimer(directoryPoll)
	defer next.Stop()
	var failed error
	for changed := map[string]bool{}; ; {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if len(changed) == 0 {
				next.Reset(directorySettle)
			}
			changed[filepath.Base(e.Name)] = true
		case <-next.C:
			if err := d.refresh(changed); err != nil && failed == nil {
				d.log.Error("certificates are served as known, their folder cannot be listed", "folder", d.path, "cause", err)
				failed = err
			} else if err == nil {
				failed = nil
			}
			changed = map[string]bool{}
			next.Reset(directoryPoll)
		}
	}
}

// refresh looks at the files that changed, or at all of them if those are not known or something else
// changed: a folder behind a link, for instance.
func (d *Directory) refresh(changed map[string]bool) error {
	if len(changed) == 0 {
		return d.scan()
	}
	names := map[string]bool{}
	for base := range changed {
		extension := filepath.Ext(base)
		if extension != ".crt" && extension != ".key" && extension != ".ocsp" {
			return d.scan()
		}
		names[strings.TrimSuffix(base, extension)] = true
	}
	for name := range names {
		s := d.stampOf(name)
		_, err := os.Stat(d.file(name, ".crt"))
		d.mu.Lock()
		key := strings.ToLower(name)
		if f := d.names[key]; errors.Is(err, fs.ErrNotExist) && f != nil {
			d.unload(f)
			delete(d.names, key)
		} else if err == nil {
			d.put(key, s)
		}
		d.mu.Unlock()
	}
	return nil
}
