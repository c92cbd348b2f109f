package pages

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const defaultType = "text/html; charset=utf-8"

// writeFiles fills a fresh directory with the given files.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mustNew makes a Set of dir's pages.
func mustNew(t *testing.T, dir string) *Set {
	t.Helper()
	s, err := New(Options{StaticDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantPage compares one page with what a test expects.
func wantPage(t *testing.T, s *Set, status int, body, contentType string) {
	t.Helper()
	gotBody, gotType := s.Page(status)
	if string(gotBody) != body || gotType != contentType {
		t.Errorf("Page(%d) = %.60q, %q; want %.60q, %q", status, gotBody, gotType, body, contentType)
	}
}

func TestPage_EmbeddedNamesItsStatusAndTheHeader(t *testing.T) {
	t.Parallel()
	s := mustNew(t, "")
	for _, status := range []int{400, 405, 408, 413, 414, 431, 502, 503, 504, 508} {
		body, contentType := s.Page(status)
		if contentType != defaultType {
			t.Errorf("Page(%d) has type %q, want %q", status, contentType, defaultType)
		}
		for _, want := range []string{"<b>" + strconv.Itoa(status) + "</b>", "X-Sluice-Error", texts[status].Causes[0].Word} {
			if !bytes.Contains(body, []byte(want)) {
				t.Errorf("Page(%d) does not contain %q", status, want)
			}
		}
	}
}

func TestPage_EmbeddedIsSelfContained(t *testing.T) {
	t.Parallel()
	// Whatever would make a browser ask somebody else for something.
	external := regexp.MustCompile(`(?i)(https?:)?//|@import|url\(|<script|\bsrc=`)
	for status := minStatus - 1; status <= maxStatus+1; status++ {
		body, _ := mustNew(t, "").Page(status)
		if found := external.Find(body); found != nil {
			t.Fatalf("Page(%d) refers to something outside itself: %q", status, found)
		}
		if len(body) > 8<<10 {
			t.Fatalf("Page(%d) is %d bytes long, want at most 8 KiB", status, len(body))
		}
	}
}

func TestPage_UnknownStatusGetsTheDefault(t *testing.T) {
	t.Parallel()
	s := mustNew(t, "")
	want, _ := s.Page(599)
	if !bytes.Contains(want, []byte(fallbackText.Heading)) {
		t.Fatal("the page of status 599 is not the default page")
	}
	for _, status := range []int{-1, 0, 200, 399, 418, 600, 1 << 30} {
		wantPage(t, s, status, string(want), defaultType)
	}
}

func TestPage_OperatorsFilesComeFirst(t *testing.T) {
	t.Parallel()
	latin1 := "<meta charset=iso-8859-1>\xe9"
	files := map[string]string{
		"error_502.html":  "mine 502",
		"error_400.html":  latin1,
		"error_504.html":  "",
		"error_99.html":   "not a status",
		"error_502.html~": "an editor's copy",
	}
	embedded, _ := mustNew(t, "").Page(503)

	s := mustNew(t, writeFiles(t, files))
	wantPage(t, s, 502, "mine 502", defaultType)
	wantPage(t, s, 400, latin1, "text/html")
	wantPage(t, s, 504, "", defaultType)
	wantPage(t, s, 503, string(embedded), defaultType)

	files["error_default.html"] = "mine for the rest"
	s = mustNew(t, writeFiles(t, files))
	wantPage(t, s, 502, "mine 502", defaultType)
	wantPage(t, s, 503, "mine for the rest", defaultType)
	wantPage(t, s, 200, "mine for the rest", defaultType)
}

func TestNew_RefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(writeFiles(t, map[string]string{"file": ""}), "file")
	pipe := filepath.Join(t.TempDir(), "error_502.html")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "error_default.html")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	large := writeFiles(t, map[string]string{"error_503.html": strings.Repeat("x", MaxPageBytes+1)})
	tests := []struct {
		name, dir string
		want      []string
	}{
		{"missing directory", "/nonexistent/static", []string{`"/nonexistent/static"`, "no such file"}},
		{"not a directory", file, []string{strconv.Quote(file), "not a directory"}},
		{"pipe", filepath.Dir(pipe), []string{strconv.Quote(pipe), "not a regular file"}},
		{"folder", filepath.Dir(folder), []string{strconv.Quote(folder), "not a regular file"}},
		{"too large", large, []string{"error_503.html", "larger than 1048576 bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(Options{StaticDir: tt.dir})
			if err == nil {
				t.Fatal("New succeeded")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestNew_AcceptsThePageAtTheLimit(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", MaxPageBytes)
	wantPage(t, mustNew(t, writeFiles(t, map[string]string{"error_503.html": body})), 503, body, defaultType)
}

func TestReload_TakesNewFilesAndKeepsOldOnesOnError(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"error_502.html": "one"})
	s := mustNew(t, dir)
	path := filepath.Join(dir, "error_502.html")

	if err := os.WriteFile(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	wantPage(t, s, 502, "two", defaultType)

	broken := filepath.Join(dir, "error_503.html")
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), broken) {
		t.Fatalf("Reload = %v, want an error that names %s", err, broken)
	}
	wantPage(t, s, 502, "two", defaultType)

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("Reload = %v, want an error that names %s", err, dir)
	}
	wantPage(t, s, 502, "two", defaultType)
}

func TestReload_IsSafeBesidePage(t *testing.T) {
	t.Parallel()
	s := mustNew(t, writeFiles(t, map[string]string{"error_default.html": "mine"}))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
		}
	})
	for range 1000 {
		wantPage(t, s, 502, "mine", defaultType)
	}
	wg.Wait()
}

func TestPage_DoesNotAllocate(t *testing.T) {
	s := mustNew(t, "")
	if n := testing.AllocsPerRun(100, func() { s.Page(502) }); n != 0 {
		t.Errorf("Page allocates %v times, want 0", n)
	}
}
