package policy

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// codeMap is the page that tells a newcomer where things are, and mapped its sections, by heading.
const codeMap = "ARCHITECTURE.md"

var mapped = map[string]string{
	"### cmd/sluice:": "cmd/sluice",
	"### proxy:":      "proxy",
	"### cache:":      "cache",
}

// quoted finds what stands between backquotes.
var quoted = regexp.MustCompile("`([^`]+)`")

func TestCodeMap_NamesEachFile(t *testing.T) {
	t.Parallel()
	for heading, folder := range mapped {
		var files []string
		for _, f := range goFiles(t) {
			if name := path.Base(f.path); f.folder == folder && !f.isTest() && name != "doc.go" {
				files = append(files, name)
			}
		}
		compareMap(t, heading, files)
	}
}

func TestCodeMap_NamesEachInternalPackage(t *testing.T) {
	t.Parallel()
	folders := []string{"testdeps"} // holds a script only
	for _, f := range goFiles(t) {
		if folder, ok := strings.CutPrefix(f.folder, "internal/"); ok {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	compareMap(t, "### internal:", slices.Compact(folders))
}

// compareMap wants the first column of the table under a heading to name just these.
func compareMap(t *testing.T, heading string, want []string) {
	t.Helper()
	_, section, ok := strings.Cut(read(t, codeMap), "\n"+heading)
	if !ok {
		t.Fatalf("%s has no section %q", codeMap, heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	var named []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, match := range quoted.FindAllStringSubmatch(cells[1], -1) {
			named = append(named, match[1])
		}
	}
	for _, name := range want {
		if !slices.Contains(named, name) {
			t.Errorf("%s: %s is not under %q: a newcomer looks there first", codeMap, name, heading)
		}
	}
	for i, name := range named {
		if !slices.Contains(want, name) || slices.Contains(named[:i], name) {
			t.Errorf("%s: %s under %q is gone, or stands there twice", codeMap, name, heading)
		}
	}
}
