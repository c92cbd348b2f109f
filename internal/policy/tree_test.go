package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// root is the top of the repository, seen from this folder.
const root = "../.."

// file is a parsed Go file.
type file struct {
	path   string // from the top, with slashes
	folder string // the same without the name, "." for the top
	set    *token.FileSet
	ast    *ast.File
}

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// imports are the paths that the file imports.
func (f file) imports() []string {
	var list []string
	for _, spec := range f.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic("BUG: the parser let a bad import pass: " + spec.Path.Value)
		}
		list = append(list, path)
	}
	return list
}

// line is the line number of a place in the file.
func (f file) line(p token.Pos) int { return f.set.Position(p).Line }

// goFiles parses every Go file of the repository.
func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipped(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		parsed, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		files = append(files, file{relative, filepath.ToSlash(filepath.Dir(relative)), set, parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go file found: the tests look in the wrong place")
	}
	sort.Slice(files, func(i, j int) bool { return files[i].path < files[j].path })
	return files
}

// skipped tells whether a folder holds no source of ours.
func skipped(name string) bool {
	return name == "testdata" || name == "bin" || name == "dist" || name == "vendor" ||
		strings.HasPrefix(name, ".") && name != "." && name != ".."
}

// within tells whether folder is one of the parents or lies below one.
func within(folder string, parents ...string) bool {
	for _, parent := range parents {
		if folder == parent || strings.HasPrefix(folder, parent+"/") {
			return true
		}
	}
	return false
}
