package arch

import (
	"go/ast"
	"go/token"
	"slices"
)

// pureImports is what pure packages may import besides each other. fmt is
// there for String methods and errors; hmac and sha256 for authenticated
// contexts.
var pureImports = []string{
	"bytes", "cmp", "container/heap", "encoding/binary", "encoding/hex", "errors", "fmt", "hash", "hash/crc32",
	"iter", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings", "unicode/utf8",
	"crypto/hmac", "crypto/sha256", "crypto/subtle",
	"github.com/cespare/xxhash/v2",
}

// pureExtra is what single pure packages may import in addition.
var pureExtra = map[string][]string{
	// A hybrid clock is shared state by its nature, and reads a physical one
	// that is handed to it.
	"crdt/hlc": {"sync", "sync/atomic", "time"},
}

const (
	whyPureImport = "pure packages import a short list of the standard library (purity.go): no time, chance, files or network, so that a decision depends on its arguments alone"
	whyPureGo     = "pure code has one thread of control, its caller's: concurrency would make its outcome depend on more than its arguments"
)

func checkPurity(t *Tree, f *File) []Violation {
	r, ok := rowOf(f.Dir)
	if !ok || r.layer != pure || f.Test {
		return nil
	}
	var out []Violation
	for _, imp := range f.Imports {
		if imp.Local == "" && !slices.Contains(pureImports, imp.Path) && !slices.Contains(pureExtra[f.Dir], imp.Path) {
			out = append(out, t.violation(imp.pos, whyPureImport, "%s is pure and imports %s", f.Dir, imp.Path))
		}
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		what := ""
		switch n := n.(type) {
		case *ast.GoStmt:
			what = "starts a goroutine"
		case *ast.ChanType:
			what = "has a channel"
		case *ast.SelectStmt, *ast.SendStmt:
			what = "uses a channel"
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				what = "uses a channel"
			}
		}
		if what != "" {
			out = append(out, t.violation(n.Pos(), whyPureGo, "%s is pure and %s", f.Dir, what))
		}
		return true
	})
	return out
}
