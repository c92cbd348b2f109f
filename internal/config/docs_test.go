package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const documentation = "../../docs/configuration.md"

var update = flag.Bool("update", false, "rewrite the tables of "+documentation)

// TestDocs_HaveEveryKey compares docs/configuration.md with the table of keys, both ways: what
// stands between the markers of a section must be exactly what the table says. It is brought up to
// date by: go test ./internal/config -run Docs -update
func TestDocs_HaveEveryKey(t *testing.T) {
	content, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	want := string(content)
	for _, section := range sections {
		name := section
		if name == "" {
			name = "top"
		}
		begin, end := "<!-- keys: "+name+" -->\n", "<!-- end of keys -->\n"
		before, rest, foundBegin := strings.Cut(want, begin)
		_, after, foundEnd := strings.Cut(rest, end)
		if !foundBegin || !foundEnd {
			t.Fatalf("%s has no section marked %q", documentation, strings.TrimSpace(begin))
		}
		want = before + begin + markdownTable(section) + end + after
	}
	if want == string(content) {
		return
	}
	if !*update {
		t.Fatalf("%s does not agree with the table of keys; run: go test ./internal/config -run Docs -update", documentation)
	}
	if err := os.WriteFile(documentation, []byte(want), 0o644); err != nil { //nolint:gosec // a public text
		t.Fatal(err)
	}
}

// TestDocs_HaveEveryOldName: the tables above hold today's names only.
func TestDocs_HaveEveryOldName(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	_, oldNames, found := strings.Cut(string(content), "## Old names")
	if !found {
		t.Fatalf("%s has no section of old names", documentation)
	}
	names := append([]string{"server.address6"}, legacyRedis...)
	for _, r := range renamed {
		if today, known := keyByPath(r.now); known && today.Instead == "" {
			names = append(names, strings.TrimPrefix(r.old, legacyHTTPS))
		}
	}
	for _, name := range names {
		if !strings.Contains(oldNames, "`"+name) && !strings.Contains(oldNames, legacyHTTPS+name) {
			t.Errorf("%s does not explain %q", documentation, name)
		}
	}
}

// markdownTable writes the rows of one section.
func markdownTable(section string) string {
	var b strings.Builder
	b.WriteString("| key | holds | default | reload | meaning |\n|---|---|---|---|---|\n")
	for _, k := range Keys() {
		if k.Section() == section {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Path, holds(k), defaultCell(k), reloadCell(k), meaning(k))
		}
	}
	return b.String()
}

func holds(k Key) string {
	if k.Unit != "" && k.Unit != "s" {
		return k.Type() + ", " + k.Unit
	}
	return k.Type()
}

func defaultCell(k Key) string {
	cell := "–"
	if k.Default != "" {
		cell = "`" + strings.ReplaceAll(k.Default, ",", ", ") + "`"
	}
	if k.Hipache {
		cell += " (Hipache)"
	}
	if k.Bare != "" {
		cell += "; `" + k.Bare + "` without a file"
	}
	return cell
}

func reloadCell(k Key) string {
	switch {
	case k.Instead != "":
		return "–"
	case k.Live:
		return "yes"
	default:
		return "restart"
	}
}

func meaning(k Key) string {
	if k.Instead != "" {
		return k.Doc + " No meaning here: " + k.Instead + "."
	}
	text := strings.ReplaceAll(k.Doc, "<", "&lt;")
	if k.Rule.Text != "" && !strings.Contains(k.Rule.Text, "control characters") { // goes without saying
		text += " Must be " + k.Rule.Text + "."
	}
	if k.Secret {
		text += " Secret: never printed."
	}
	return text
}
