package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// fileSettle is how long a change of the routes file is left alone before it is read, because
	// editors write in several steps.
	fileSettle = 20 * time.Millisecond
	// filePoll is how often the file is compared although nothing was announced: network file
	// systems and exhausted inotify watches announce nothing.
	filePoll = 2 * time.Second
	// maxFileBytes bounds a routes file.
	maxFileBytes = 1 << 30
	// maxFileSteps bounds how often further steps put the reading off.
	maxFileSteps = 10
)

// fileStore serves the frontends, certificates and policies of one JSON file. It keeps no marks: the
// cache's own are all there are.
type fileStore struct {
	path string
	max  int // backends per frontend
	log  *slog.Logger
	done sync.WaitGroup

	mu     sync.RWMutex // guards lists and hashes, whose values are immutable
	lists  map[string][]string
	hashes [families]map[string]map[string]string
	loaded os.FileInfo // the file of the last attempt, good or bad; nil if there was none
}

func newFileStore(path string, o *Options) *fileStore {
	return &fileStore{path: path, max: o.MaxBackends, log: o.Log}
}

// CheckFile reads the routes file that driver, an element of Options.Driver, names, and tells what
// Start would say of it. A driver of another kind has no file, and no error. What the file holds
// that means nothing goes to log.
func CheckFile(driver string, log *slog.Logger) error {
	d, err := parseDriver(driver)
	if err != nil || d.file == "" {
		return err
	}
	return newFileStore(d.file, &Options{Log: log}).loadFirst()
}

func (s *fileStore) start(ctx context.Context, to sink) error {
	if err := s.loadFirst(); err != nil {
		return err
	}
	to.up()
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		// The directory, not the file: an atomic rename replaces what a watch of the file sees.
		err = watcher.Add(filepath.Dir(s.path))
	}
	if err != nil {
		s.log.Warn("routes file is polled, because it cannot be watched", "file", s.path, "cause", err)
	}
	s.done.Go(func() { s.follow(ctx, watcher, to) })
	return nil
}

// follow reloads the file when it changes, until ctx ends. watcher may be nil.
func (s *fileStore) follow(ctx context.Context, watcher *fsnotify.Watcher, to sink) {
	var events chan fsnotify.Event
	if watcher != nil {
		defer watcher.Close()
		events = watcher.Events
		s.done.Go(func() {
			for range watcher.Errors { // an overflow: the poll finds what was lost
			}
		})
	}
	next := time.NewTimer(filePoll)
	defer next.Stop()
	pending := 0
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if s.concerns(e) && pending < maxFileSteps {
				pending++
				next.Reset(fileSettle)
			}
		case <-next.C:
			pending = 0
			s.reload(to)
			next.Reset(filePoll)
		}
	}
}

// concerns tells whether e may change what the path leads to. Behind a link another name changes,
// but it is created or renamed then, not written.
func (s *fileStore) concerns(e fsnotify.Event) bool {
	return filepath.Base(e.Name) == filepath.Base(s.path) || e.Has(fsnotify.Create) || e.Has(fsnotify.Rename)
}

// reload reads the file if it is another than before and announces what changed. A file that cannot
// be used leaves everything as it was.
func (s *fileStore) reload(to sink) {
	info, err := os.Stat(s.path)
	if sameFile(info, s.loaded) {
		return
	}
	s.loaded = info
	var file *routesFile
	if err == nil {
		s.loaded, file, err = s.load()
	}
	if err != nil {
		s.log.Error("routes file is not used, the routes before it stay", "file", s.path, "cause", err)
		return
	}
	s.mu.Lock()
	lists, hashes := s.lists, s.hashes
	s.lists, s.hashes = file.lists, file.hashes
	s.mu.Unlock()
	changed := announceChanges(lists, file.lists, slices.Equal, to.listChanged)
	for f := range hashes {
		changed += announceChanges(hashes[f], file.hashes[f], maps.Equal,
			func(name string) { to.hashChanged(family(f), name) })
	}
	s.log.Info("routes file loaded", "file", s.path, "frontends", len(file.lists), "changed", changed)
}

// sameFile tells whether two looks at a path found the same content; nil stands for no file.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// announceChanges names each value that differs and returns their number.
func announceChanges[T any](old, values map[string]T, equal func(a, b T) bool, announce func(name string)) int {
	changed := 0
	for name, v := range values {
		if !equal(old[name], v) {
			announce(name)
			changed++
		}
	}
	for name := range old {
		if _, ok := values[name]; !ok {
			announce(name)
			changed++
		}
	}
	return changed
}

// loadFirst loads the file for the first time: there are no routes before it that could stay, so one
// that cannot be used is an error with a way out.
func (s *fileStore) loadFirst() error {
	info, file, err := s.load()
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("load routes: %w: create it, with {} to begin with, or name another driver", err)
	}
	if err != nil {
		return fmt.Errorf("load routes from %s: %w", s.path, err)
	}
	s.loaded, s.lists, s.hashes = info, file.lists, file.hashes
	return nil
}

// load reads and parses the file. The look at the file comes before the reading, so that a change
// in between is found by the next look.
func (s *fileStore) load() (os.FileInfo, *routesFile, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxFileBytes {
		return info, nil, fmt.Errorf("%d bytes are more than the limit of %d", info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return info, nil, err
	}
	file, err := s.parse(data)
	return info, file, err
}

func (s *fileStore) parse(data []byte) (*routesFile, error) {
	file, err := parseRoutes(data)
	if err == nil && len(file.unknown) > 0 {
		s.log.Warn("routes file has keys that are ignored",
			"file", s.path, "count", len(file.unknown), "first", file.unknown[0])
	}
	return file, err
}

func (s *fileStore) read(_ context.Context, name string, _ bool) (reading, error) {
	s.mu.RLock()
	list := s.lists[name]
	s.mu.RUnlock()
	if len(list) > s.max+1 {
		return reading{list: list[:s.max+1], cut: true}, nil
	}
	return reading{list: list}, nil
}

func (s *fileStore) mark(context.Context, mark) (markOutcome, error) { return markKept, nil }

func (s *fileStore) checker(context.Context) (int64, error) { return 0, nil }

func (s *fileStore) ping(context.Context) error { return nil }

func (s *fileStore) close() { s.done.Wait() }
