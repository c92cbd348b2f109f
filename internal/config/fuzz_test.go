package config

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad: whatever a file and a flag hold, Load gives a configuration or an error, never both
// and never a panic, and a configuration can be shown.
func FuzzLoad(f *testing.F) {
	for _, sample := range []string{"testdata/hipache.json", "testdata/hipache-0.3.json"} {
		content, err := os.ReadFile(sample)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(content), "127.0.0.1:80,[::1]")
	}
	f.Add(`{"http": {"bind": [{"address": "*", "port": "81"}]}, "driver": ["redis://:a@b"]}`, `[{"port": 1}]`)
	f.Add(`{"server": {"https": {"cert": "c", "key": "k"}, "address": [{}]}}`, "{}")
	file := filepath.Join(f.TempDir(), "config.json")
	f.Fuzz(func(t *testing.T, content, bind string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(LoadOptions{File: file, Strict: true, Flags: map[string][]string{"http-bind": {bind}}})
		if (c == nil) == (err == nil) {
			t.Fatalf("Load gave %v and %v", c, err)
		}
		if c == nil {
			if err.Error() == "" {
				t.Fatal("an error without a text")
			}
			return
		}
		if err := c.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
