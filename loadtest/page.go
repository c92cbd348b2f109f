package main

import (
	"fmt"
	"os"
	"strings"
)

// writeSection puts text between the marks of command in the page, a file in Markdown:
// "<!-- command -->" and "<!-- end of command -->", each on a line of its own.
func writeSection(page, command, text string) error {
	if page == "" {
		return nil
	}
	old, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	begin, end := "<!-- "+command+" -->\n", "<!-- end of "+command+" -->\n"
	before, rest, begun := strings.Cut(string(old), begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return fmt.Errorf("write page: %s has no lines %q and %q in this order", page, begin, end)
	}
	return saveText(page, before+begin+text+end+after)
}

// saveText writes a page or a picture; an empty path asks for none.
func saveText(path, content string) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // what everybody reads
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}
