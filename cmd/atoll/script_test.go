package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// TestMain makes "atoll" of the scripts this very program, in a process of its
// own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"atoll": main})
}

// TestScript runs testdata/script. Each script finds a region of three nodes
// in memory, which is its own, at ATOLL_ENDPOINTS, and has these commands:
//
//	sibling KEY VALUE   another region writes a value that has seen nothing
//	fault KIND          all operations fail from now on: see faults
//	exits CODE CMD ...  as exec, for a command that ends with that code
//	context VAR         the context that the last command printed as JSON
//	version VAR         the version of the first sibling that it printed so
//	register NODE       a node is known, and waits to join
//	aside NODE KEY VALUE...  is what the node has in its side log
//	dead NODE           a node does not answer any more
//	step                all moves go on by one stage
//	auto N              they do so N times whenever somebody asks for tasks
//	store up|down|mute  what the metadata servers do
//	link SECONDS PENDING  region us was heard so long ago, and lacks so many writes
//	world REGION...     there are such regions of one node over one store; the first is
//	                    the one to be asked
//	state REGION STATE  the map of regions has a region in a state
//	unequal KIND        a partition is behind, differs or is silent, or none is
//	another VAR         there is another deployment, an empty one, at $VAR
//
// The files that are too large for a script are over-bucket and over-all, one
// byte larger than any value in a bucket of default size and in any bucket.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			region := apitest.NewRegion(t, 3)
			env.Values["region"] = region
			env.Values["world"] = &theWorld{}
			env.Setenv("ATOLL_ENDPOINTS", region.Nodes[0].Addr)
			env.Setenv("HOME", env.WorkDir)
			// The race detector makes each process wait a second at its end.
			env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			env.Setenv("LONGKEY", strings.Repeat("k", coord.MaxKey+1))
			return writeFiles(env.WorkDir, map[string][]byte{
				"over-bucket": make([]byte, coord.DefaultMaxValue+1),
				"over-all":    make([]byte, maxValue+1),
				"notext":      {0xff, 0xfe, 0, 0xff},
				"no-newline":  []byte("a value"),
				"tea-value":   []byte(`{"price":  1.50, "name": "t\u00e9"}`),
			})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sibling":  siblingCommand,
			"fault":    faultCommand,
			"exits":    exitsCommand,
			"context":  contextCommand,
			"version":  siblingVersionCommand,
			"register": memberCommand(func(m *apitest.Members, id topology.NodeID) error { return m.Register(id) }),
			"dead": memberCommand(func(m *apitest.Members, id topology.NodeID) error {
				m.SetDead(id, true)
				return nil
			}),
			"aside":   asideCommand,
			"link":    linkCommand,
			"unequal": unequalCommand,
			"world":   worldCommand,
			"another": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: another VAR")
				}
				ts.Setenv(args[0], apitest.NewRegion(t, 3).Nodes[0].Addr)
			},
			"state": stateCommand,
			"auto":  autoCommand,
			"step":  stepCommand,
			"store": storeCommand,
		},
	})
}

func regionOf(ts *testscript.TestScript) *apitest.Region {
	region, ok := ts.Value("region").(*apitest.Region)
	if !ok {
		ts.Fatalf("the script has no region")
	}
	return region
}

func siblingCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sibling KEY VALUE")
	}
	regionOf(ts).Store.Blind("", args[0], crdt.MakeActor(7, 2), args[1])
}

func linkCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: link SECONDS PENDING [NODE that has given the region up]...")
	}
	var given []topology.NodeID
	for _, id := range args[2:] {
		given = append(given, topology.NodeID(id))
	}
	seconds, err := strconv.Atoi(args[0])
	ts.Check(err)
	pending, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	regionOf(ts).SetLag(api.Lag{Links: []api.Link{{SeenBy: "eu", NeedFullSync: given, LagReport: geo.LagReport{
		Origin: "eu", Destination: "us", Heard: true, Alive: seconds < 3, HeartbeatAge: time.Duration(seconds) * time.Second,
		Pending: pending, PendingBytes: 1024 * pending, PendingAge: time.Duration(pending) * time.Second, Unheld: pending,
	}}}})
}

func unequalCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unequal KIND")
	}
	v := api.Verified{Partitions: 16, Equal: 15}
	switch args[0] {
	case "behind":
		v.Others = []api.Verdict{{Partition: 3, Kind: api.Behind, MissingInA: 1, MissingInB: 2, Nodes: []topology.NodeID{"us-1"}}}
	case "differs":
		v.Others = []api.Verdict{{Partition: 3, Kind: api.Differs, Nodes: []topology.NodeID{"us-1"}}}
	case "silent":
		v.Others = []api.Verdict{{Partition: 3, Kind: api.Silent, Nodes: []topology.NodeID{"us-1"}}}
	default:
		v.Equal = 16
	}
	regionOf(ts).SetVerified(v)
}

func asideCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args)%2 != 1 {
		ts.Fatalf("usage: aside NODE KEY VALUE...")
	}
	var entries []api.Aside
	for i := 1; i < len(args); i += 2 {
		v := crdt.Version{Dot: crdt.Dot{Actor: crdt.MakeActor(3, 1), N: uint64(i)}, Stamp: hlc.FromMillis(1_700_000_000_000), Value: []byte(args[i+1])}
		if args[i+1] == "" {
			v.Dead, v.Value = true, nil
		}
		entries = append(entries, api.Aside{
			ID: fmt.Appendf(nil, "l-entry-of-the-side-log-%d", i), Bucket: "default", Key: []byte(args[i]),
			Record: crdt.Record{Versions: []crdt.Version{v}},
		})
	}
	regionOf(ts).SetAside(topology.NodeID(args[0]), entries)
}

// faults by name. "broken" is a write that was applied and not confirmed.
var faults = map[string]*coord.Error{
	"unavailable": {Code: coord.CodeUnavailable, Detail: "too few owners answered", Needed: 2, Acks: 1},
	"broken":      {Code: coord.CodeUnavailable, Outcome: coord.Unknown, Detail: "too few owners answered", Needed: 2, Acks: 1},
	"full":        {Code: coord.CodeDiskFull, Detail: "the disk is full"},
	"siblings":    {Code: coord.CodeTooManySiblings, Detail: "the key has too many siblings"},
	"none":        nil,
}

func faultCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fault KIND")
	}
	e, ok := faults[args[0]]
	if !ok {
		ts.Fatalf("no fault %s", args[0])
	}
	for _, n := range regionOf(ts).Nodes {
		if e == nil {
			n.SetFault(nil)
			continue
		}
		n.SetFault(func(apitest.Op) apitest.Fault {
			return apitest.Fault{Err: e, Applied: e.Outcome == coord.Unknown}
		})
	}
}

func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE CMD ...")
	}
	code := exitOK
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%v", err)
		}
		code = failed.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("the exit code is %d", code)
	}
}

func contextCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: context VAR")
	}
	var printed struct{ Context string }
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &printed); err != nil || printed.Context == "" {
		ts.Fatalf("no context in the output: %v", err)
	}
	ts.Setenv(args[0], printed.Context)
}

func siblingVersionCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: version VAR")
	}
	var printed struct{ Siblings []struct{ Version string } }
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &printed); err != nil || len(printed.Siblings) == 0 {
		ts.Fatalf("no version in the output: %v", err)
	}
	ts.Setenv(args[0], printed.Siblings[0].Version)
}

func memberCommand(do func(*apitest.Members, topology.NodeID) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("which node?")
		}
		ts.Check(do(regionOf(ts).Members, topology.NodeID(args[0])))
	}
}

func stepCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: step")
	}
	ts.Check(regionOf(ts).Members.Step())
}

func autoCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: auto N")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	regionOf(ts).Members.Auto.Store(int32(n))
}

func storeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: store up|down|mute")
	}
	store := regionOf(ts).Members.Store
	store.SetMute(args[0] == "mute")
	store.SetDown(args[0] == "down")
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
