package cache

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/logtest"
)

func TestFile_MissingFileSaysWhatToDo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.json")
	c, err := New(Options{Driver: []string{"file:" + path}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Start(context.Background())
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("got %v, want an error with the path and the way out", err)
	}
}

func TestFile_BadFileKeepsTheOldRoutes(t *testing.T) {
	t.Parallel()
	r := newFileRoutes(t)
	r.set("a.example", "a", "10.0.0.1")
	var log logtest.Buffer
	c := start(t, Options{Driver: []string{r.driver()}, Log: log.Logger()})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	bad := "{\n  \"frontend:a.example\": [\"a\", \"10.0.0.2\"],\n  \"frontend:b.example\": \"10.0.0.3\"\n}"
	if err := os.WriteFile(r.path, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mistake is logged", func() bool { return strings.Contains(log.String(), "frontend:b.example") })
	if !strings.Contains(log.String(), "line 3") {
		t.Errorf("the line is not named:\n%s", log.String())
	}
	wantAnswer(t, c, "a.example", "10.0.0.1")
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal is logged", func() bool { return strings.Contains(log.String(), "no such file") })
	wantAnswer(t, c, "a.example", "10.0.0.1")
	r.set("a.example", "a", "10.0.0.4")
	awaitAnswer(t, c, "a.example", "10.0.0.4")
}

func TestFile_FollowsALinkThatIsSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(sub, ip string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		text := `{"frontend:a.example": ["a", "` + ip + `"]}`
		if err := os.WriteFile(filepath.Join(dir, sub, "routes.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(sub, filepath.Join(dir, "data.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	put("v1", "10.0.0.1")
	path := filepath.Join(dir, "routes.json")
	if err := os.Symlink("data/routes.json", path); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Driver: []string{"file:" + path}})
	wantAnswer(t, c, "a.example", "10.0.0.1")
	put("v2", "10.0.0.2")
	awaitAnswer(t, c, "a.example", "10.0.0.2")
}

func TestParseRoutes_Errors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                          "line 1: the file ends too early",
		`[]`:                        "line 1: the file must hold one JSON object",
		"{\n\"frontend:a\": [\"x\"": `line 2: "frontend:a": the file ends too early`,
		"{\n\n\"frontend:a\": [1]}": `line 3: "frontend:a": a frontend is an array of strings, not number`,
		`{"frontend:a": {}}`:        `line 1: "frontend:a": a frontend is an array of strings, not object`,
		`{"frontend:a": []}`:        `line 1: "frontend:a": write`,
		`{"frontend:": ["x"]}`:      `line 1: "frontend:": write`,
		`{} x`:                      "line 1: something follows the object",
		"{\"frontend:a\": [\"x\"],\n\"frontend:a\": [\"x\"]}": `line 2: "frontend:a": the key stands twice`,
		"{\n\"frontend:a\" [\"x\"]}":                          "line 2: ",
	} {
		if _, err := parseRoutes([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s...", text, err, want)
		}
	}
	file, err := parseRoutes([]byte(`{"tls:a": {"key": "x"}, "frontend:a": ["id", "b"], "healthcheck:a": 1, "route:a": {"hsts": 1}}`))
	if err != nil || len(file.lists) != 1 || len(file.unknown) != 1 || file.unknown[0] != "healthcheck:a" {
		t.Errorf("unknown keys: got %+v, %v", file, err)
	}
	if err == nil && (file.hashes[certificateFamily]["a"]["key"] != "x" || file.hashes[policyFamily]["a"]["hsts"] != "1") {
		t.Errorf("hashes: got %v", file.hashes)
	}
}
