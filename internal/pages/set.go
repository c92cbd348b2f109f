package pages

import (
	"log/slog"
	"sync/atomic"
)

// Statuses for which the operator may supply a page of his own.
const (
	minStatus = 400
	maxStatus = 599
)

// Options says where a Set takes its pages from.
type Options struct {
	// StaticDir is the directory of error_<code>.html and error_default.html, where <code> is
	// 400 to 599. Empty: embedded pages only. Files that are not there fall back; a directory
	// that is not there is an error.
	StaticDir string

	// Log gets one line for each load that found pages in StaticDir. Nil: no log.
	Log *slog.Logger
}

// page is one answer body and its media type.
type page struct {
	body        []byte
	contentType string
}

// table is one complete, immutable choice of pages: what a request sees is never half reloaded.
type table struct {
	byStatus [maxStatus - minStatus + 1]page
	fallback page
}

// lookup returns the page of status, the fallback where status lies outside 400 to 599.
func (t *table) lookup(status int) page {
	if status < minStatus || status > maxStatus {
		return t.fallback
	}
	return t.byStatus[status-minStatus]
}

// Set answers which page belongs to a status. Make one with New; a Set must not be copied.
type Set struct {
	staticDir string
	log       *slog.Logger
	current   atomic.Pointer[table]
}

// New reads the pages of opts.StaticDir. It fails if the directory or a file in it that bears a
// page's name cannot be read.
func New(opts Options) (*Set, error) {
	s := &Set{staticDir: opts.StaticDir, log: opts.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Page returns the body and the Content-Type of the answer with the given status. The body is
// shared with all other callers and must not be modified; it stays valid after a Reload.
func (s *Set) Page(status int) (body []byte, contentType string) {
	p := s.current.Load().lookup(status)
	return p.body, p.contentType
}

// Reload reads the directory again and replaces all pages at once. On an error the pages that
// were there before stay in use. Files that have vanished fall back as they do in New.
func (s *Set) Reload() error {
	if s.staticDir == "" {
		s.current.Store(&builtin)
		return nil
	}
	custom, err := readDir(s.staticDir)
	if err != nil {
		return err
	}
	s.current.Store(custom.table())
	s.log.Info("error pages loaded", "dir", s.staticDir, "pages", custom.names)
	return nil
}
