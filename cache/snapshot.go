package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// snapshotPause is the least time between two snapshots.
	snapshotPause = 2 * time.Second
	// snapshotShare is one part in how many of a core's time writing may take.
	snapshotShare = 20
	// snapshotByteRate bounds the bytes per second that changes cost the disk in the long run.
	snapshotByteRate = 2 << 20
	// snapshotBatch is how many names are written between two pauses, and under one hold of
	// Cache.mu.
	snapshotBatch = 512
	// maxSnapshotBytes bounds a snapshot file.
	maxSnapshotBytes = 4 << 30
	// leftoverAge is the age at which an unfinished file is taken for one that a crash left.
	leftoverAge = time.Hour
)

// snapshot keeps a file for a start without the store: the names with a list and those that a
// wildcard answers for, the policies in use, and the certificates in use if Options.SnapshotKeys says
// so. Dead sets and marks are not in it; they are soon found anew.
type snapshot struct {
	// Immutable.
	c     *Cache
	path  string // empty: off
	keys  bool   // certificates are in it
	store storeID

	saved uint64 // Cache.changes of the last snapshot, read or written
	off   bool   // the file is not ours to replace
	told  bool   // a failure to write was logged
}

// newSnapshot returns the snapshot of c. A routes file needs none: it is there at the next start.
func newSnapshot(c *Cache) *snapshot {
	s := &snapshot{c: c, path: c.o.Snapshot, keys: c.o.SnapshotKeys, store: identifyStore(c.o.Driver)}
	if _, ok := c.store.(*fileStore); ok {
		s.path = ""
	}
	return s
}

// load fills the empty table from the file. What it brings counts as outdated, so the store is
// asked before it is used again; while that is not possible, it serves as stale.
func (s *snapshot) load() {
	if s.path == "" {
		return
	}
	s.removeLeftovers()
	begin := time.Now()
	h, n, err := s.read()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err != nil:
		s.off = errors.Is(err, errForeignFile)
		s.c.log.Warn("snapshot is not used", "file", s.path, "cause", err)
		return
	}
	if s.saved = s.c.changes.Load(); n.secrets {
		s.saved-- // The next snapshot is without keys: let it be soon.
	}
	s.c.m.restored.Store(uint64(n.lists + n.derived))
	if n.lists > 0 {
		s.c.ready.Store(true)
	}
	s.c.log.Info("snapshot loaded", "file", s.path, "frontends", n.lists, "derived", n.derived,
		"policies", n.policies, "certificates", n.certificates,
		"made", time.Unix(0, h.made).UTC().Format(time.RFC3339), "took", time.Since(begin).Round(time.Millisecond).String())
}

// restored counts what a snapshot brought.
type restored struct {
	lists, derived, policies, certificates int
	secrets                                bool // certificates that are not wanted
}

func (s *snapshot) read() (h snapshotHeader, n restored, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return h, n, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return h, n, err
	case !info.Mode().IsRegular():
		return h, n, errForeignFile
	case info.Size() > maxSnapshotBytes:
		return h, n, fmt.Errorf("its %d bytes are more than the limit of %d", info.Size(), int64(maxSnapshotBytes))
	case s.keys:
		if err := checkPrivate(info); err != nil {
			return h, n, err
		}
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return h, n, err
	}
	h, body, err := parseSnapshot(data, s.store)
	if err != nil {
		return h, n, err
	}
	return h, s.c.restore(body), nil
}

// checkPrivate returns an error if somebody else may have read or written a file that holds keys.
func checkPrivate(info os.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("its mode is %#o, so that others may have read or changed its keys (cache.snapshotKeys): "+
			"chmod 600 it if you are sure that nobody did", mode)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d and this process to user %d, which must be the same "+
			"for a file with keys (cache.snapshotKeys): chown or remove it", stat.Uid, os.Geteuid())
	}
	return nil
}

// removeLeftovers removes files that a process which was killed did not finish.
func (s *snapshot) removeLeftovers() {
	names, _ := filepath.Glob(s.path + ".[0-9]*.tmp") // a path that is no pattern has no leftovers found
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(name) // the next start tries again
		}
	}
}

// run writes the file when something changed, until ctx ends.
func (s *snapshot) run(ctx context.Context) {
	timer := time.NewTimer(snapshotPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		written := s.save(ctx, snapshotShare)
		timer.Reset(max(snapshotPause, time.Duration(written)*time.Second/snapshotByteRate))
	}
}

// save writes the file if something changed since the last one and returns how many bytes that
// took. share is as for encode.
func (s *snapshot) save(ctx context.Context, share int) int64 {
	changes := s.c.changes.Load()
	if s.path == "" || s.off || changes == s.saved {
		return 0
	}
	size, err := s.write(ctx, share)
	switch {
	case ctx.Err() != nil:
		return 0 // Close writes what this one did not.
	case err != nil:
		s.c.m.snapshotFailures.Inc()
		if !s.told {
			s.c.log.Error("snapshot is not written", "file", s.path, "cause", err)
		}
		s.told = true
		return size
	}
	s.told, s.saved = false, changes
	s.c.m.snapshotBytes.Store(uint64(size))
	s.c.m.snapshotWrites.Inc()
	return size
}

// write replaces the file by one of what is known now: under another name first, so that a crash
// at any moment leaves the old one or the new one.
func (s *snapshot) write(ctx context.Context, share int) (size int64, err error) {
	if err := s.ours(); err != nil {
		s.off = errors.Is(err, errForeignFile)
		return 0, err
	}
	temporary := s.path + "." + strconv.Itoa(os.Getpid()) + ".tmp"
	// What has this name already, another may have made, to read what we write.
	_ = os.Remove(temporary)                                                   // or the next line fails
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // keys, and passwords in URLs
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary) // if that fails too, removeLeftovers does it
		}
	}()
	w := snapshotWriter{file: f}
	err = s.encode(ctx, &w, share)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary, s.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(s.path))
	}
	return int64(snapshotHeaderBytes + w.bytes), err
}

// ours tells whether the file that is there now may be replaced.
func (s *snapshot) ours() error {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(snapshotMagic))
	n, _ := f.Read(head) // a file that cannot be read does not begin as ours does, unless it is empty
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || !isSnapshot(head[:n]) {
		return errForeignFile
	}
	return nil
}

// syncFolder makes a rename in the folder last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// encode writes all that a snapshot holds, at most one part in share of the time; 1 means at full speed.
func (s *snapshot) encode(ctx context.Context, w *snapshotWriter, share int) error {
	if _, err := w.file.Write(make([]byte, snapshotHeaderBytes)); err != nil {
		return err
	}
	made := time.Now()
	if err := s.encodePolicies(ctx, w, share); err != nil {
		return err
	}
	if err := s.encodeRoutes(ctx, w, share); err != nil {
		return err
	}
	if s.keys {
		if err := s.encodeCertificates(ctx, w, share); err != nil {
			return err
		}
	}
	h := snapshotHeader{store: s.store, made: made.UnixNano(), records: w.records, bytes: w.bytes, sum: w.sum}
	_, err := w.file.WriteAt(h.append(nil), 0)
	return err
}

func (s *snapshot) encodeRoutes(ctx context.Context, w *snapshotWriter, share int) error {
	for _, kind := range [...]spaceKind{exactSpace, derivedSpace} {
		walk := walk{c: s.c, kind: kind}
		for begin := time.Now(); ctx.Err() == nil; begin = time.Now() {
			batch := walk.next(snapshotBatch)
			if batch == nil {
				break
			}
			for _, e := range batch {
				w.add(e.name(), e.value.Load(), s.c)
			}
			if err := w.flushPaced(ctx, begin, share); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// rest pauses for d or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// snapshotWriter writes the body of a snapshot.
type snapshotWriter struct {
	file    *os.File
	buffer  []byte
	records uint64
	bytes   uint64
	sum     uint32
}

// add appends the record of a name, if it resolves to anything.
func (w *snapshotWriter) add(name string, v *value, c *Cache) {
	switch {
	case v.frontend != nil:
		w.buffer = appendList(w.buffer, name, v.frontend, c.expiry(v.expires))
	case v.target != nil:
		w.buffer = appendDerived(w.buffer, name, v.target.name())
	default:
		return
	}
	w.records++
}

func (w *snapshotWriter) flush() error {
	w.sum = crc32.Update(w.sum, castagnoli, w.buffer)
	w.bytes += uint64(len(w.buffer))
	_, err := w.file.Write(w.buffer)
	w.buffer = w.buffer[:0]
	return err
}

// wallTime converts a time of c.now.
func (c *Cache) wallTime(at int64) time.Time { return c.began.Add(time.Duration(at) - time.Second) }

// restore puts what a snapshot's checked body holds into the tables, as far as there is room.
func (c *Cache) restore(body []byte) (n restored) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r record
	var elements []string
	var issuers [][]byte
	shared := map[resolution]*value{}
	now, wall := c.now(), time.Now()
	for len(body) > 0 {
		body, _ = r.parse(body) // checked before
		until := int64(never)
		if r.expires != 0 && r.kind != recordDerived {
			until = now + int64(time.UnixMilli(r.expires).Sub(wall))
		}
		switch {
		case r.kind == recordIssuer:
			issuers = append(issuers, bytes.Clone(r.name))
		case until <= now, len(r.name) > maxNameBytes:
		case r.kind == recordPolicy:
			n.policies += count(c.restorePolicy(&r, until))
		case r.kind == recordCertificate && !c.o.SnapshotKeys:
			n.secrets = true
		case r.kind == recordCertificate:
			n.certificates += count(c.restoreCertificate(&r, issuers, until))
		case r.kind == recordDerived:
			n.derived += count(c.restoreDerived(&r, shared))
		default:
			elements = r.elements(elements)
			n.lists += count(c.restoreList(&r, elements, until))
		}
	}
	return n
}

func count(done bool) int {
	if done {
		return 1
	}
	return 0
}

// restoreList and restoreDerived put one name into the table, as outdated. mu is held.
func (c *Cache) restoreList(r *record, elements []string, until int64) bool {
	name := string(r.name)
	if c.table.findString(name) != nil || !c.hasRoom(exactSpace) {
		return false
	}
	v := &value{frontend: c.restoredFrontend(name, elements), expires: until}
	v.setPolicy(c.lastPolicy(name))
	c.restoreEntry(name, v)
	return true
}

func (c *Cache) restoreDerived(r *record, shared map[resolution]*value) bool {
	name, target := string(r.name), c.table.findString(string(r.target))
	if target == nil || c.table.findString(name) != nil || !c.hasRoom(derivedSpace) {
		return false
	}
	key := resolution{target: target, extra: newExtra(nil, c.lastPolicy(name))}
	v := shared[key]
	if v == nil {
		v = &value{target: target, expires: never, extra: key.extra}
		shared[key] = v
	}
	c.restoreEntry(name, v)
	return true
}

func (c *Cache) hasRoom(kind spaceKind) bool {
	return len(c.spaces[kind].members) < c.spaces[kind].limit
}

func (c *Cache) restoredFrontend(name string, list []string) *Frontend {
	r := reading{list: list}
	if limit := c.o.MaxBackends + 1; len(list) > limit {
		r.list, r.cut = list[:limit], true
	}
	return c.parseReading(name, &r)
}

// restoreEntry adds one restored name. mu is held.
func (c *Cache) restoreEntry(name string, v *value) {
	e := newEntry(name, v)
	c.table.insert(e)
	c.spaces[v.kind()].add(e, v.kind())
}
