package policy

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// metricName finds names of metrics in string literals and in prose.
var metricName = regexp.MustCompile(`\bsluice_[a-z0-9_]+`)

func TestMetrics_AreDocumented(t *testing.T) {
	t.Parallel()
	const page = "docs/metrics.md"
	inCode := map[string]string{} // name -> a file that has it
	for _, f := range goFiles(t) {
		if f.isTest() || !within(f.folder, "cmd", "proxy", "cache", "internal") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name := metricLiteral(t, f, n); name != "" {
				inCode[name] = f.path
			}
			return true
		})
	}
	text := read(t, page)
	for name, path := range inCode {
		if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, "`"+name+"{") {
			t.Errorf("%s: metric %s has no entry in %s: nobody can use a figure that is not explained", path, name, page)
		}
	}
	for _, name := range metricName.FindAllString(text, -1) {
		_, ok := inCode[name]
		_, series := inCode[strings.TrimSuffix(name, "_bucket")] // of a histogram
		if !ok && !series {
			t.Errorf("%s: metric %s is in no Go file: a figure that never comes misleads", page, name)
		}
	}
}

// metricLiteral is the metric that a string literal names, or "".
func metricLiteral(t *testing.T, f file, n ast.Node) string {
	t.Helper()
	literal, ok := n.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	name := metricName.FindString(value)
	if strings.HasSuffix(name, "_") {
		t.Errorf("%s:%d: metric %q is put together at run time: "+
			"write names whole, so that a search finds them", f.path, f.line(literal.Pos()), value)
	}
	return name
}

// citation finds the file of Hipache that a tag names.
var citation = regexp.MustCompile(`\b(?:(?:lib|test)/[A-Za-z/_]+\.(?:js|py)|bin/hipache|config/[a-z_]+\.json)`)

func TestHipacheTags_HaveRows(t *testing.T) {
	t.Parallel()
	const page = "docs/hipache-compatibility.md"
	var rows []string
	for line := range strings.Lines(read(t, page)) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, line)
		}
	}
	for _, f := range goFiles(t) {
		if within(f.folder, "internal/policy") {
			continue
		}
		for _, group := range f.ast.Comments {
			checkTag(t, f, group, page, rows)
		}
	}
}

// checkTag wants, for each tag, the file of Hipache that it goes back to, and a row of the page that
// names this file and the folder of the tag.
func checkTag(t *testing.T, f file, group *ast.CommentGroup, page string, rows []string) {
	t.Helper()
	text := group.Text()
	if !strings.Contains(text, "Hipache: ") {
		return
	}
	sources := citation.FindAllString(text, -1)
	if len(sources) == 0 {
		t.Errorf("%s:%d: a Hipache tag cites no file of Hipache (lib/cache.js): "+
			"a reader cannot check what it claims", f.path, f.line(group.Pos()))
	}
	for _, source := range sources {
		if !slices.ContainsFunc(rows, func(row string) bool {
			return strings.Contains(row, "`"+source+"`") && strings.Contains(row, "`"+f.folder+"`")
		}) {
			t.Errorf("%s:%d: %s has no row with `%s` and `%s`: "+
				"behaviour kept for Hipache's sake is listed there", f.path, f.line(group.Pos()), page, source, f.folder)
		}
	}
}

// read is the content of a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
