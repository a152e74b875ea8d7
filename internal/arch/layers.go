package arch

import (
	"slices"
	"strings"
)

// layer orders the packages. An import points to a lower layer, or, within
// one, to what the importing package's row names as being beside it.
type layer int

const (
	// pure code decides; it does nothing.
	pure layer = iota
	// seams are what drivers need of the world, as interfaces and values.
	seam
	// drivers do what pure code decided, through seams.
	driver
	// generated code of proto/.
	generated
	// adapters speak to one library each, or to one kind of caller.
	adapter
	// wiring knows them all and puts them together.
	wiring
	// tooling looks at the tree from outside.
	tooling
)

func (l layer) String() string {
	return [...]string{"pure", "seam", "driver", "generated", "adapter", "wiring", "tooling"}[l]
}

// why says what the layer's direction protects.
func (l layer) why() string {
	switch l {
	case pure:
		return "pure code decides and knows nobody, so that every decision can be replayed and proved in a test"
	case seam:
		return "a seam that knows its users or its implementations can have only one of each"
	case driver:
		return "drivers meet libraries only through seams, so that the whole node runs in a simulated world; siblings do not know each other, except as the table says"
	case generated:
		return "generated code is a format, it knows nothing of this project"
	case adapter:
		return "an adapter translates between one seam and one library; what two adapters share belongs below them"
	default:
		return "wiring is on top; nothing else may know it"
	}
}

type row struct {
	// path of the package below the module; "x/..." is everything at or below x.
	path  string
	layer layer
	// beside lists the packages of the same layer that it may import.
	beside []string
}

// table gives each package its place. A new package gets a row with the commit
// that brings it. Rows of packages that do not exist yet do no harm.
var table = []row{
	{path: "crdt/hlc", layer: pure},
	{path: "internal/strict", layer: pure},
	{path: "crdt", layer: pure, beside: []string{"crdt/hlc", "internal/strict"}},
	{path: "crdt/session", layer: pure, beside: []string{"crdt", "crdt/hlc", "internal/strict"}},
	{path: "crdt/session/sessiontest", layer: pure, beside: []string{"crdt"}},
	{path: "crdt/model", layer: tooling}, // draws from math/rand; tests and make sim use it
	{path: "hashring", layer: pure},      // it and crdt do not know each other
	{path: "hashring/capacity", layer: pure, beside: []string{"hashring"}},
	{path: "node/quorum", layer: pure},
	{path: "node/quorum/leveltest", layer: pure, beside: []string{"node/quorum"}},
	{path: "node/cas", layer: pure, beside: []string{"crdt", "crdt/hlc", "internal/strict", "node/quorum"}},
	{path: "node/bucket", layer: pure, beside: []string{"crdt", "crdt/hlc", "internal/strict", "node/quorum"}},
	{path: "node/keyring", layer: pure, beside: []string{"crdt"}},
	{path: "node/home", layer: pure},
	{path: "node/verify", layer: pure},
	{path: "node/wire", layer: pure, beside: []string{"crdt", "crdt/hlc", "crdt/session", "hashring", "internal/strict", "node/cas", "node/home"}},
	{path: "node/hotkey", layer: pure},
	{path: "node/overload", layer: pure},
	{path: "geo/regionmap", layer: pure, beside: []string{"internal/strict"}},
	{path: "geo/failover", layer: pure, beside: []string{"geo/regionmap", "crdt", "internal/strict"}},

	{path: "node/storage", layer: seam},
	{path: "node/topology", layer: seam},
	{path: "node/peer", layer: seam, beside: []string{"node/topology"}},
	{path: "geo", layer: seam, beside: []string{"internal/pause", "internal/planted"}}, // its loops (pump, drain, lag) use only its own seams

	{path: "node/replica", layer: driver},
	{path: "node/liveness", layer: driver},
	{path: "node/yield", layer: driver},
	{path: "node/coord", layer: driver, beside: []string{"node/replica", "node/liveness"}},

	{path: "node/regions", layer: driver},
	{path: "node/catalog", layer: driver, beside: []string{"node/coord"}},
	{path: "node/repair", layer: driver, beside: []string{"node/replica", "node/liveness", "node/yield"}},
	{path: "node/collect", layer: driver, beside: []string{"node/replica"}},
	{path: "node/hint", layer: driver, beside: []string{"node/replica", "node/liveness"}},
	{path: "node/handoff", layer: driver, beside: []string{"node/replica", "node/liveness", "node/yield"}},

	{path: "proto/...", layer: generated},

	{path: "node/storage/badgerstore", layer: adapter},
	{path: "node/storage/memstore", layer: adapter},
	{path: "node/storage/storagetest", layer: adapter},
	{path: "node/peer/grpcpeer", layer: adapter},
	{path: "node/peer/memnet", layer: adapter},
	{path: "node/peer/peertest", layer: adapter},
	{path: "node/topology/jskv", layer: adapter},
	{path: "node/topology/memtopo", layer: adapter},
	{path: "node/topology/topologytest", layer: adapter},
	{path: "geo/natsd", layer: adapter},
	{path: "geo/natsd/natsdtest", layer: adapter, beside: []string{"geo/natsd"}},
	{path: "geo/jetstream", layer: adapter, beside: []string{"geo/natsd"}},
	{path: "geo/memlog", layer: adapter},
	{path: "geo/geotest", layer: adapter},
	{path: "node/api", layer: adapter},
	{path: "node/api/members", layer: adapter, beside: []string{"node/api"}},
	{path: "node/api/apitest", layer: adapter, beside: []string{"node/api", "node/api/members", "node/topology/memtopo"}},
	{path: "node/admin", layer: adapter, beside: []string{"node/api"}},
	{path: "client", layer: adapter},

	{path: "node", layer: wiring},
	{path: "node/nodetest", layer: wiring, beside: []string{"node"}},
	{path: "node/process", layer: wiring, beside: []string{"node"}},
	{path: "node/fleet", layer: wiring, beside: []string{"node", "node/process"}},
	{path: "client/kvtest", layer: wiring, beside: []string{"node", "node/process", "node/fleet"}},
	{path: "cmd/...", layer: wiring, beside: []string{"node", "node/process", "node/fleet", "cmd/..."}},
	{path: "e2e/...", layer: wiring, beside: []string{"node", "node/process", "node/fleet", "cmd/...", "e2e/..."}},

	// The switch for bugs planted on purpose: constants, unless a build tag is set.
	{path: "internal/planted", layer: seam},
	// Waiting that a context ends.
	{path: "internal/pause", layer: seam},
	// Addresses that are known before somebody listens.
	{path: "internal/freeport", layer: seam, beside: []string{"internal/pause"}},
	// Small files that are replaced as a whole.
	{path: "internal/wholefile", layer: seam},
	{path: "internal/...", layer: tooling},
}

func rowOf(dir string) (row, bool) {
	for _, r := range table {
		if r.covers(dir) {
			return r, true
		}
	}
	return row{}, false
}

func (r row) covers(dir string) bool { return covers(r.path, dir) }

func covers(pattern, dir string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return within(dir, root)
	}
	return dir == pattern
}

func checkLayers(t *Tree, f *File) []Violation {
	from, ok := rowOf(f.Dir)
	if !ok || f.Test {
		return nil // a package without a row is told once, by checkPackages
	}
	var out []Violation
	for _, imp := range f.Imports {
		if imp.Local == "" {
			continue
		}
		to, ok := rowOf(imp.Local)
		if !ok || to.layer == generated {
			continue // who may know proto/ is said in libraries.go
		}
		if within(f.Dir, "geo") && within(imp.Local, "node") {
			out = append(out, t.violation(imp.pos,
				"geo and node meet in geo.Source and geo.Sink alone, so that replication between regions can be tested and replaced without a node",
				"%s imports %s", f.Dir, imp.Local))
			continue
		}
		beside := slices.ContainsFunc(from.beside, func(p string) bool { return covers(p, imp.Local) })
		if to.layer < from.layer && to.layer != tooling || to.layer == from.layer && beside {
			continue
		}
		out = append(out, t.violation(imp.pos, from.layer.why(),
			"%s (%s) imports %s (%s)", f.Dir, from.layer, imp.Local, to.layer))
	}
	return out
}
