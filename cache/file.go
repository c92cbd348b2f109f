package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// fileStore serves the frontends of one JSON file. It keeps no marks: the cache's own are all there
// are.
type fileStore struct {
	path string
	max  int // backends per frontend
	log  *slog.Logger
	done sync.WaitGroup

	mu     sync.RWMutex // guards lists, whose slices are immutable
	lists  map[string][]string
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
	var lists map[string][]string
	if err == nil {
		s.loaded, lists, err = s.load()
	}
	if err != nil {
		s.log.Error("routes file is not used, the routes before it stay", "file", s.path, "cause", err)
		return
	}
	s.mu.Lock()
	old := s.lists
	s.lists = lists
	s.mu.Unlock()
	s.log.Info("routes file loaded", "file", s.path, "frontends", len(lists), "changed", announceChanges(old, lists, to))
}

// sameFile tells whether two looks at a path found the same content; nil stands for no file.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// announceChanges names each list that differs and returns their number.
func announceChanges(old, lists map[string][]string, to sink) int {
	changed := 0
	for name, list := range lists {
		if !slices.Equal(old[name], list) {
			to.listChanged(name)
			changed++
		}
	}
	for name := range old {
		if _, ok := lists[name]; !ok {
			to.listChanged(name)
			changed++
		}
	}
	return changed
}

// loadFirst loads the file for the first time: there are no routes before it that could stay, so one
// that cannot be used is an error with a way out.
func (s *fileStore) loadFirst() error {
	info, lists, err := s.load()
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("load routes: %w: create it, with {} to begin with, or name another driver", err)
	}
	if err != nil {
		return fmt.Errorf("load routes from %s: %w", s.path, err)
	}
	s.loaded, s.lists = info, lists
	return nil
}

// load reads and parses the file. The look at the file comes before the reading, so that a change
// in between is found by the next look.
func (s *fileStore) load() (os.FileInfo, map[string][]string, error) {
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
	lists, err := s.parse(data)
	return info, lists, err
}

func (s *fileStore) parse(data []byte) (map[string][]string, error) {
	lists, unknown, err := parseRoutes(data)
	if err == nil && len(unknown) > 0 {
		s.log.Warn("routes file has keys that are ignored", "file", s.path, "count", len(unknown), "first", unknown[0])
	}
	return lists, err
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
