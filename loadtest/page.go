package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// runPage writes the sections of rivals and growth from their records, as this program would write
// them now, and measures nothing.
func runPage(_ context.Context, _ *site, o *options, _ machine, _ io.Writer) error {
	if o.page == "" {
		return errors.New("-page: must name the file to write")
	}
	compared, err := loadRecords[records](rivalsFile(o))
	if err == nil && len(compared) > 0 {
		err = compared.write(o)
	}
	grown, growthErr := loadRecords[growthRecords](growthFile(o))
	if growthErr == nil && len(grown) > 0 {
		growthErr = grown.write(o)
	}
	return errors.Join(err, growthErr)
}

// loadRecords reads a file that saveRecords wrote; one that does not exist holds nothing.
func loadRecords[M ~map[string]R, R any](file string) (M, error) {
	all := M{}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load records: %w", err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("load records: %s: %w (delete it to begin anew)", file, err)
	}
	return all, nil
}

// saveRecords keeps what a page is made from, so that a part of it can be measured anew by itself.
func saveRecords(file string, records any) error {
	text, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return fmt.Errorf("save records: %w", err)
	}
	return saveText(file, string(text)+"\n")
}
