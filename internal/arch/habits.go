package arch

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

const (
	whyNoPrint  = "stdout belongs to commands; a package returns an error or logs through hclog"
	whyNoLog    = "one logger in the tree (hclog), handed down, with levels and keys"
	whyNoInit   = "what happens at import cannot be ordered, configured or tested: register by an explicit call"
	whyNoMuddle = "a package is named for the concept it holds; what fits under this name fits anywhere, and will be put there"
	whyDoc      = "a package opens with what it is for, what it does not do, its invariants, and who owns its goroutines"
	whyRow      = "every package has a place: add a row to internal/arch/layers.go"
)

func checkHabits(t *Tree, f *File) []Violation {
	var out []Violation
	for _, imp := range f.Imports {
		if imp.Path == "log" || imp.Path == "log/slog" {
			out = append(out, t.violation(imp.pos, whyNoLog, "%s imports %s", f.Dir, imp.Path))
		}
	}
	mayPrint := f.Test || f.File.Name.Name == "main" || within(f.Dir, "cmd")
	ast.Inspect(f.File, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if pkg, name := callee(n); pkg == "fmt" && strings.HasPrefix(name, "Print") && !mayPrint {
				out = append(out, t.violation(n.Pos(), whyNoPrint, "%s calls fmt.%s", f.Dir, name))
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				out = append(out, t.violation(n.Pos(), whyNoInit, "%s has an init function", f.Dir))
			}
		}
		return true
	})
	return out
}

// callee returns "fmt", "Println" for fmt.Println(...). It goes by the name of
// the package, which nothing in this tree renames.
func callee(call *ast.CallExpr) (pkg, name string) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return id.Name, sel.Sel.Name
}

var muddles = []string{"util", "utils", "common", "helper", "helpers", "manager", "types", "misc", "base", "shared"}

// checkPackages asks what can only be asked of a package as a whole.
func checkPackages(t *Tree) []Violation {
	type pkg struct {
		first *File
		doc   bool
	}
	seen := map[string]*pkg{}
	for _, f := range t.Files {
		if f.Generated || f.Test {
			continue
		}
		p := seen[f.Dir]
		if p == nil {
			p = &pkg{first: f}
			seen[f.Dir] = p
		}
		p.doc = p.doc || f.Doc != nil
	}
	var out []Violation
	for _, f := range t.Files {
		p := seen[f.Dir]
		if p == nil || p.first != f {
			continue
		}
		pos := f.Package
		if _, ok := rowOf(f.Dir); !ok {
			out = append(out, t.violation(pos, whyRow, "%s is in no layer", f.Dir))
		}
		if slices.Contains(muddles, path.Base(f.Dir)) {
			out = append(out, t.violation(pos, whyNoMuddle, "%s is no concept", f.Dir))
		}
		if !p.doc {
			out = append(out, t.violation(pos, whyDoc, "%s has no package comment", f.Dir))
		}
	}
	return out
}
