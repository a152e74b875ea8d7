package capacity

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"testing"
	"time"
)

// What the code fixes by name is read from its source: a constant, a default
// (def(&c.Name, value)) or an option (o.Name = value).
func TestBeats(t *testing.T) {
	seconds := float64(time.Second)
	for _, c := range []struct {
		file, name string
		want       float64
	}{
		{"node/repair/repair.go", "Beat", repairBeat * seconds},
		{"node/repair/repair.go", "RegionBeat", repairRegionBeat * seconds},
		{"geo/announcer.go", "announceBeat", announceBeat * seconds},
		{"geo/announcer.go", "fullEvery", announceAll * seconds},
		{"geo/pump.go", "flushBytes", flushBytes},
		{"geo/jetstream/log.go", "defaultMaxAge", logRetention * seconds},
		{"node/liveness/machine.go", "pingUp", seconds},
		{"node/skew.go", "skewBeat", skewBeat * seconds},
		{"node/duty.go", "drainers", drainers},
		{"node/storage/badgerstore/config.go", "NumMemtables", memtables - 1},
		{"node/storage/badgerstore/pieces.go", "pieceSize", pieceBytes},
		{"node/storage/badgerstore/seal.go", "sealSize", sealFixed - 1},
		{"node/storage/committer.go", "QueueBytes", queues - 16<<20},
		{"node/replica/outbox.go", "maxFresh", 16 << 20},
		{"crdt/dot.go", "RegionBits", 6},
	} {
		got, err := valueIn("../../"+c.file, c.name)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
		} else if got != c.want {
			t.Errorf("%s: %s is %g, here it is %g", c.file, c.name, got, c.want)
		}
	}
}

func valueIn(file, name string) (float64, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return 0, err
	}
	var found ast.Expr
	field := func(e ast.Expr) bool {
		s, ok := e.(*ast.SelectorExpr)
		return ok && s.Sel.Name == name
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, id := range n.Names {
				if id.Name == name && i < len(n.Values) {
					found = n.Values[i]
				}
			}
		case *ast.AssignStmt:
			if field(n.Lhs[0]) && n.Tok == token.ASSIGN && found == nil {
				found = n.Rhs[0]
			}
		case *ast.CallExpr:
			if len(n.Args) == 2 {
				if at, ok := n.Args[0].(*ast.UnaryExpr); ok && at.Op == token.AND && field(at.X) {
					found = n.Args[1]
				}
			}
		}
		return true
	})
	if found == nil {
		return 0, fmt.Errorf("no value of %s", name)
	}
	v := evaluate(found)
	if v == nil {
		return 0, fmt.Errorf("%s is not a constant that this test understands", name)
	}
	n, _ := constant.Float64Val(constant.ToFloat(v))
	return n, nil
}

var units = map[string]time.Duration{
	"Nanosecond": 1, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
}

// evaluate returns nil for what is not arithmetic on numbers and units of time.
func evaluate(e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return evaluate(e.X)
	case *ast.SelectorExpr:
		if d, ok := units[e.Sel.Name]; ok {
			return constant.MakeInt64(int64(d))
		}
	case *ast.BinaryExpr:
		x, y := evaluate(e.X), evaluate(e.Y)
		if x == nil || y == nil {
			return nil
		}
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n))
		}
		return constant.BinaryOp(x, e.Op, y)
	}
	return nil
}
