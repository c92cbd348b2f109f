package policy

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// importRule forbids some imports to some folders.
type importRule struct {
	folders   []string // and all below them
	forbidden []string // import paths, and all below them
	tests     bool     // holds for test files too
	why       string
}

// testKits serve tests, benchmarks and the load test.
var testKits = []string{
	"sluice/internal/acmetest", "sluice/internal/backendtest", "sluice/internal/httpcases", "sluice/internal/leaktest",
	"sluice/internal/logtest", "sluice/internal/redistest",
}

var importRules = []importRule{
	{
		folders: []string{"cache"}, forbidden: []string{"net/http", "github.com/valyala/fasthttp"}, tests: true,
		why: "the cache resolves names; it knows no HTTP, so that no HTTP library can shape it",
	},
	{
		folders: []string{"proxy"}, forbidden: []string{"github.com/redis/rueidis"}, tests: true,
		why: "the proxy asks the cache, never Redis: no request may wait for a command of its own",
	},
	{
		folders: []string{"cache"}, forbidden: []string{"sluice/proxy", "sluice/cmd"}, tests: true,
		why: "imports run one way: cmd -> proxy -> cache -> internal",
	},
	{
		folders: []string{"proxy"}, forbidden: []string{"sluice/cmd"}, tests: true,
		why: "imports run one way: cmd -> proxy -> cache -> internal",
	},
	{
		folders: []string{"internal"}, forbidden: []string{"sluice"},
		why: "packages under internal are leaves: whoever reads one need read no other",
	},
	{
		folders: []string{"internal"}, forbidden: []string{"sluice/proxy", "sluice/cache", "sluice/cmd"}, tests: true,
		why: "packages under internal are leaves, and so are their tests, which may use the test kits only",
	},
	{
		folders: []string{"cmd", "proxy", "cache"}, forbidden: append([]string{"testing"}, testKits...),
		why: "test kits and package testing have no place in the program",
	},
	{
		folders: []string{"cmd", "proxy", "cache", "internal"}, tests: true,
		forbidden: []string{"sluice/bench", "sluice/loadtest", "sluice/examples"},
		why:       "measurements and examples are built on the program, never the reverse",
	},
	{
		folders: []string{"examples", "loadtest"}, forbidden: []string{"sluice/cmd", "sluice/proxy", "sluice/cache"}, tests: true,
		why: "examples and load test use the binary as everybody does, not its packages",
	},
}

func TestImports_RunOneWay(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, rule := range importRules {
			if !within(f.folder, rule.folders...) || f.isTest() && !rule.tests {
				continue
			}
			for _, path := range f.imports() {
				if within(path, rule.forbidden...) {
					t.Errorf("%s imports %s: %s", f.path, path, rule.why)
				}
			}
		}
	}
}

// TestImports_RulesMeetTheirFolders catches a rule that guards a folder which has moved.
func TestImports_RulesMeetTheirFolders(t *testing.T) {
	t.Parallel()
	files := goFiles(t)
	for _, rule := range importRules {
		for _, folder := range rule.folders {
			if !slices.ContainsFunc(files, func(f file) bool { return within(f.folder, folder) }) {
				t.Errorf("a rule guards %s, which has no Go file", folder)
			}
		}
	}
}

func TestGoMod_ReplacesNothing(t *testing.T) {
	t.Parallel()
	content, err := os.Open(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	lines := bufio.NewScanner(content)
	for n := 1; lines.Scan(); n++ {
		if words := strings.Fields(lines.Text()); len(words) > 0 && words[0] == "replace" {
			t.Errorf("go.mod:%d: %s: a replaced module builds here and nowhere else; "+
				"require a version that can be downloaded", n, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
