package pages

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unicode/utf8"
)

// MaxPageBytes is the largest page file that is accepted: pages stay in memory, and one of them
// is sent to every client that meets the error.
const MaxPageBytes = 1 << 20

// directory is what the operator's own files offer.
type directory struct {
	names    []string // files that were read, in order of status, the default last
	byStatus map[int]page
	fallback *page // error_default.html; nil if there is none
}

// table fills in the embedded pages where the operator has none. An error_default.html of his
// stands before every embedded page, also those made for one status.
func (d *directory) table() *table {
	t := builtin
	if d.fallback != nil {
		t.fallback = *d.fallback
		for i := range t.byStatus {
			t.byStatus[i] = *d.fallback
		}
	}
	for status, p := range d.byStatus {
		t.byStatus[status-minStatus] = p
	}
	return &t
}

// readDir reads every page file of dir. It asks for each name instead of listing the directory,
// which may hold a whole site.
//
// Hipache: lib/worker.js (error_<code>.html, then error_default.html, in server.staticDir).
func readDir(dir string) (*directory, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	d := &directory{byStatus: make(map[int]page)}
	for status := minStatus; status <= maxStatus; status++ {
		p, err := d.read(dir, "error_"+strconv.Itoa(status)+".html")
		if err != nil {
			return nil, err
		}
		if p != nil {
			d.byStatus[status] = *p
		}
	}
	p, err := d.read(dir, "error_default.html")
	d.fallback = p
	return d, err
}

// checkDir refuses a path that is no directory: with a misspelt one, every page would silently
// be the embedded one.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("open staticDir %q: name a directory, or null for the built-in pages: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("open staticDir %q: not a directory; name one, or null for the built-in pages", dir)
	}
	return nil
}

// read returns the page in the named file and notes its name, or nil if there is no such file.
func (d *directory) read(dir, name string) (*page, error) {
	body, err := readFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read error page: %w", err)
	}
	d.names = append(d.names, name)
	return &page{body: body, contentType: contentType(body)}, nil
}

// readFile reads a regular file of at most MaxPageBytes. Opening does not block on a pipe.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file; replace or remove it", path)
	}
	// The limit holds for what is read, not for what Stat said: the file may be growing.
	body, err := io.ReadAll(io.LimitReader(f, MaxPageBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxPageBytes {
		return nil, fmt.Errorf("%q is larger than %d bytes; make it smaller or remove it", path, MaxPageBytes)
	}
	return body, nil
}

// contentType names UTF-8 only where the bytes are: a charset in the header overrides the one
// that an older page states in its own head.
func contentType(body []byte) string {
	if utf8.Valid(body) {
		return "text/html; charset=utf-8"
	}
	return "text/html"
}
