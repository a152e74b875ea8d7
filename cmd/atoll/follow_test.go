package main

import (
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/topology"
)

// ends makes a script a test that regions end with.
type ends struct{ *testscript.TestScript }

func (e ends) Cleanup(f func()) { e.Defer(f) }

// theWorld of a script, once it has one.
type theWorld struct{ *apitest.World }

func worldCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: world REGION...")
	}
	names := make([]topology.Region, len(args))
	for i, name := range args {
		names[i] = topology.Region(name)
	}
	w := apitest.NewWorld(ends{ts}, 1, names...)
	holder, ok := ts.Value("world").(*theWorld)
	if !ok {
		ts.Fatalf("the script has no room for a world")
	}
	holder.World = w
	ts.Setenv("ATOLL_ENDPOINTS", w.Regions[0].Nodes[0].Addr)
}

func stateCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: state REGION STATE")
	}
	w, ok := ts.Value("world").(*theWorld)
	if !ok || w.World == nil {
		ts.Fatalf("there is no world yet")
	}
	for s := regionmap.Active; s <= regionmap.Removed; s++ {
		if s.String() == args[1] {
			w.Set(topology.Region(args[0]), s)
			return
		}
	}
	ts.Fatalf("no such state: %s", args[1])
}
