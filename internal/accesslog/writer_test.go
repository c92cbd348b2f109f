package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/internal/logtest"
)

// open opens a log that the test closes at its end.
func open(t *testing.T, o Options) *Writer {
	t.Helper()
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// logN logs n records whose targets are /<from> and on.
func logN(w *Writer, from, n int) {
	r := example()
	for i := range n {
		r.Target = fmt.Appendf(nil, "/%d", from+i)
		w.Log(r)
	}
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func counter(set *metrics.Set, name string) uint64 {
	return set.GetOrCreateCounter("sluice_accesslog_" + name).Get()
}

func TestWriter_AppendsInOrderWithinTheFlushInterval(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	w := open(t, Options{Path: path, FlushInterval: time.Millisecond, Metrics: set})
	logN(w, 0, 3)
	eventually(t, "three lines in the file", func() bool { return strings.Count(readFile(t, path), "\n") == 4 })
	lines := strings.Split(readFile(t, path), "\n")
	for i, want := range []string{"before", "GET /0 ", "GET /1 ", "GET /2 "} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q; want %q in it", i, lines[i], want)
		}
	}
	// The counter moves just after the write.
	eventually(t, "three lines counted", func() bool { return counter(set, "lines_total") == 3 })
}

func TestWriter_UsesRecordBytesOnlyDuringLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	w := open(t, Options{Path: path})
	r := example()
	r.Target = []byte("/kept")
	w.Log(r)
	copy(r.Target, "/lost")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); !strings.Contains(got, "/kept") {
		t.Errorf("got %s", got)
	}
}

func TestWriter_None(t *testing.T) {
	t.Parallel()
	w := open(t, Options{Path: "none"})
	if w.Enabled() {
		t.Error("Enabled() is true")
	}
	w.Log(example())
	if err := errors.Join(w.Flush(), w.Reopen(), w.Close()); err != nil {
		t.Error(err)
	}
}

// TestReopen_LosesNoLine moves the file away, as logrotate does, again and again under load.
func TestReopen_LosesNoLine(t *testing.T) {
	t.Parallel()
	const loggers, each, rotations = 4, 5000, 20
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	w := open(t, Options{Path: path, FlushInterval: time.Millisecond, MaxPending: 64 << 20})
	var wg sync.WaitGroup
	for i := range loggers {
		wg.Go(func() { logN(w, i*each, each) })
	}
	for i := range rotations {
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if err := w.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != rotations+1 {
		t.Fatalf("got %d files, %v; want %d", len(files), err, rotations+1)
	}
	seen := make(map[string]bool)
	for _, file := range files {
		for line := range strings.Lines(readFile(t, file)) {
			seen[strings.Fields(line)[6]] = true
		}
	}
	if len(seen) != loggers*each {
		t.Errorf("got %d different lines; want %d", len(seen), loggers*each)
	}
}

func TestReopen_KeepsTheOldFileWhenThereIsNoNewOne(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := open(t, Options{Path: filepath.Join(dir, "access.log")})
	moved := dir + ".old"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := w.Reopen(); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v; want it to say that the folder is gone", err)
	}
	logN(w, 0, 1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, filepath.Join(moved, "access.log")); !strings.Contains(got, "/0 ") {
		t.Errorf("got %q", got)
	}
}

func TestWriter_FullDisk(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	var operational logtest.Buffer
	w := open(t, Options{
		Path: "/dev/full", FlushInterval: time.Millisecond, MaxPending: 4 << 10, Metrics: set,
		Log: slog.New(slog.NewTextHandler(&operational, nil)),
	})
	logN(w, 0, 100)
	if err := w.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Flush: got %v; want %v", err, syscall.ENOSPC)
	}
	_ = w.Flush()
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: got %v; want %v", err, syscall.ENOSPC)
	}
	if got := counter(set, "dropped_total"); got != 100 {
		t.Errorf("dropped: got %d; want all 100", got)
	}
	if got := counter(set, "write_errors_total"); got < 3 {
		t.Errorf("write errors: got %d; want at least 3", got)
	}
	if text := operational.String(); strings.Count(text, "cannot write access log") != 1 {
		t.Errorf("want one line about the errors, got:\n%s", text)
	}
}

// tornSink takes a limited number of bytes in all and then fails until it is healed.
type tornSink struct {
	mu    sync.Mutex
	text  bytes.Buffer
	limit int
}

func (s *tornSink) Write(batch []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := max(s.limit-s.text.Len(), 0)
	if room >= len(batch) {
		return s.text.Write(batch)
	}
	n, _ := s.text.Write(batch[:room])
	return n, syscall.ENOSPC
}

func (*tornSink) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
func (*tornSink) Close() error                     { return nil }

// startWith runs a writer on a sink of the test's own.
func startWith(t *testing.T, o Options, s sink) *Writer {
	t.Helper()
	w := newWriter(o, layoutHipache, s)
	go newFlusher(w).run()
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestWriter_ResumesWithinALine(t *testing.T) {
	t.Parallel()
	s := &tornSink{limit: 250}
	w := startWith(t, Options{}, s)
	logN(w, 0, 10)
	if err := w.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v; want %v", err, syscall.ENOSPC)
	}
	s.mu.Lock()
	s.limit = 1 << 20
	s.mu.Unlock()
	logN(w, 10, 10)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 20 {
		r := example()
		r.Target = fmt.Appendf(nil, "/%d", i)
		want.WriteString(render(layoutHipache, r))
	}
	if got := s.text.String(); got != want.String() {
		t.Errorf("got:\n%swant:\n%s", got, want.String())
	}
}

func TestReopen_AfterATornLineStartsWithAWholeOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	set := metrics.NewSet()
	s := &tornSink{limit: 250} // two lines and a part
	w := startWith(t, Options{Path: path, Metrics: set}, s)
	logN(w, 0, 10)
	if err := w.Flush(); err == nil {
		t.Fatal("the sink did not fail")
	}
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	whole := strings.Count(s.text.String(), "\n")
	text := readFile(t, path)
	if got, want := strings.Count(text, "\n"), 10-whole-1; got != want || !strings.HasPrefix(text, "::1 ") {
		t.Errorf("got %d lines; want %d:\n%s", got, want, text)
	}
	if got := counter(set, "dropped_total"); got != 1 {
		t.Errorf("dropped: got %d; want 1", got)
	}
}

// TestWriter_CutsWhatTheStoreHolds: a frontend with a huge identifier is logged like any other.
func TestWriter_CutsWhatTheStoreHolds(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"hipache", "json"} {
		path := filepath.Join(t.TempDir(), "access.log")
		w := open(t, Options{Path: path, Format: format})
		r := example()
		r.VHost = strings.Repeat("v", maxLineBytes)
		r.Backend = "http://10.0.0.1/" + strings.Repeat("b", maxLineBytes)
		w.Log(r)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text := readFile(t, path)
		if n := strings.Count(text, "v"); n < maxStoredBytes || len(text) > 3*maxStoredBytes {
			t.Errorf("%s: a line of %d bytes with %d of the identifier; want %d of it", format, len(text), n, maxStoredBytes)
		}
	}
}

func TestWriter_DropsAfterCloseAndOverlongLines(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	path := filepath.Join(t.TempDir(), "access.log")
	w := open(t, Options{Path: path, Metrics: set})
	r := example()
	r.Target = bytes.Repeat([]byte("/"), maxLineBytes)
	w.Log(r)
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	logN(w, 0, 1)
	if got := counter(set, "dropped_total"); got != 2 || readFile(t, path) != "" {
		t.Errorf("dropped %d lines, file %q; want 2 and nothing", got, readFile(t, path))
	}
}
