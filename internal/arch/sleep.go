package arch

import (
	"go/ast"
	"strings"
)

const whyNoSleep = "a test that sleeps is slow on a fast machine and wrong on a slow one: wait for the event itself, or fake time in a testing/synctest bubble"

// checkSleep refuses real sleeping in tests. Inside a testing/synctest bubble
// sleeping is how fake time moves on, so a function may sleep
//
//   - if it opens a bubble: it calls synctest.Test, or a function of its
//     package's tests that does;
//   - if it is a helper (no Test, Fuzz or Benchmark function) in a package
//     whose tests open bubbles: it is taken to run inside one.
func checkSleep(t *Tree) []Violation {
	perDir := map[string][]*File{}
	for _, f := range t.Files {
		if f.Test {
			perDir[f.Dir] = append(perDir[f.Dir], f)
		}
	}
	var out []Violation
	for _, f := range t.Files {
		if !f.Test {
			continue
		}
		opens := openers(perDir[f.Dir])
		for _, decl := range f.Decls {
			fn, isFunc := decl.(*ast.FuncDecl)
			if isFunc && (opens[fn.Name.Name] || len(opens) > 0 && !isTest(fn)) {
				continue
			}
			out = append(out, sleeps(t, decl)...)
		}
	}
	return out
}

// openers returns the functions that open a bubble, directly or through one
// another.
func openers(files []*File) map[string]bool {
	opens := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, f := range files {
			for _, decl := range f.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || opens[fn.Name.Name] {
					continue
				}
				ast.Inspect(fn, func(n ast.Node) bool {
					call, ok := n.(*ast.CallExpr)
					if !ok {
						return true
					}
					pkg, name := callee(call)
					id, _ := call.Fun.(*ast.Ident)
					if pkg == "synctest" && name == "Test" || id != nil && opens[id.Name] {
						opens[fn.Name.Name] = true
						grown = true
						return false
					}
					return true
				})
			}
		}
	}
	return opens
}

func isTest(fn *ast.FuncDecl) bool {
	name := fn.Name.Name
	return fn.Recv == nil &&
		(strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Benchmark"))
}

func sleeps(t *Tree, decl ast.Decl) []Violation {
	var out []Violation
	inSelect := map[ast.Stmt]bool{}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CommClause:
			inSelect[n.Comm] = true // a timeout, not a sleep
		case *ast.CallExpr:
			if pkg, name := callee(n); pkg == "time" && name == "Sleep" {
				out = append(out, t.violation(n.Pos(), whyNoSleep, "time.Sleep in a test"))
			}
		case *ast.ExprStmt:
			// "<-time.After(d)" alone is a sleep under another name.
			recv, ok := n.X.(*ast.UnaryExpr)
			if !ok || inSelect[n] {
				break
			}
			if call, ok := recv.X.(*ast.CallExpr); ok {
				if pkg, name := callee(call); pkg == "time" && (name == "After" || name == "Tick") {
					out = append(out, t.violation(n.Pos(), whyNoSleep, "a bare <-time.%s in a test", name))
				}
			}
		}
		return true
	})
	return out
}
