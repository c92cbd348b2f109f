package policy

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

const (
	// maxFileLines and maxFunctionLines are what a reader is asked to hold in his head at once.
	maxFileLines     = 700
	maxFunctionLines = 70
)

func TestPackages_HaveOneComment(t *testing.T) {
	t.Parallel()
	packages, comments := map[string]string{}, map[string][]string{}
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		packages[f.folder] = f.ast.Name.Name
		if f.ast.Doc != nil {
			comments[f.folder] = append(comments[f.folder], f.path)
			checkPackageComment(t, f)
		}
	}
	for folder := range packages {
		switch files := comments[folder]; len(files) {
		case 1:
		case 0:
			t.Errorf("%s has no package comment: say what it does, what it never does, who calls it, "+
				"and what is safe concurrently", folder)
		default:
			t.Errorf("%s has package comments in %s: a reader looks for one", folder, strings.Join(files, ", "))
		}
	}
}

// checkPackageComment wants the opening that go doc shows in its lists.
func checkPackageComment(t *testing.T, f file) {
	t.Helper()
	want := "Package " + f.ast.Name.Name + " "
	if f.ast.Name.Name == "main" {
		want = "Command "
	}
	if got := f.ast.Doc.Text(); !strings.HasPrefix(got, want) {
		t.Errorf("%s: the package comment begins %.40q, not %q, which go doc lists by", f.path, got, want)
	}
}

func TestFiles_AreShort(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if n := f.line(f.ast.FileEnd - 1); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: give its second noun a file of its own", f.path, n, maxFileLines)
		}
	}
}

// TestFunctions_AreShort leaves tests out: a table of cases is long and still easy to read.
func TestFunctions_AreShort(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		for _, declaration := range f.ast.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.line(function.End()) - f.line(function.Pos()) + 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, more than %d: name its parts", f.path, function.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

// TestExported_HaveComments asks for what go doc shows: a comment that begins with the name.
func TestExported_HaveComments(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.isTest() || f.ast.Name.Name == "main" {
			continue
		}
		for _, declaration := range f.ast.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) {
					checkDoc(t, f, d.Pos(), d.Doc, d.Name.Name)
				}
			case *ast.GenDecl:
				checkTypes(t, f, d)
			}
		}
	}
}

func checkTypes(t *testing.T, f file, d *ast.GenDecl) {
	t.Helper()
	for _, spec := range d.Specs {
		s, ok := spec.(*ast.TypeSpec)
		if !ok || !s.Name.IsExported() {
			continue
		}
		doc := s.Doc
		if doc == nil {
			doc = d.Doc
		}
		checkDoc(t, f, s.Pos(), doc, s.Name.Name)
	}
}

func checkDoc(t *testing.T, f file, pos token.Pos, doc *ast.CommentGroup, name string) {
	t.Helper()
	text := doc.Text()
	for _, article := range []string{"A ", "An ", "The "} {
		text = strings.TrimPrefix(text, article)
	}
	if !strings.HasPrefix(text, name) {
		t.Errorf("%s:%d: %s is exported without a comment that begins with its name: "+
			"state the contract, what it takes and owns, and what may be called at once", f.path, f.line(pos), name)
	}
}

// receiverExported tells whether go doc shows the function: it has no receiver, or an exported one.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	name, ok := t.(*ast.Ident)
	return ok && name.IsExported()
}
