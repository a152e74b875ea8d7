//go:build planted

package nodetest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/planted"
)

var (
	plantedMax  = flag.Int("planted.max", 2000, "seeds after which a planted bug counts as not caught")
	plantedRare = flag.Bool("planted.rare", true, "also look by Worlds for the bugs that take minutes to be found so")
	plantedSeed = flag.Uint64("planted.seed", 1, "first seed")
	plantedOnly = flag.String("planted.only", "", "plant this bug only")
)

// TestPlanted plants each bug in turn and looks for a seed that catches it.
// That the same Worlds find nothing without a bug is TestSim's and TestFocus's
// part. What Worlds take hundreds of seeds for has a test of its own as well, which
// is run with the bug and without.
func TestPlanted(t *testing.T) {
	binaries := directBinaries(t)
	fmt.Printf("%-16s %-56s %6s  %s\n", "BUG", "RULE IT BREAKS", "SEEDS", "CAUGHT BY")
	for _, bug := range planted.All {
		if *plantedOnly != "" && *plantedOnly != bug.Name {
			continue
		}
		if rare[bug.Name] && !*plantedRare {
			fmt.Printf("%-16s %-56s %6s  not run: takes minutes to be found (make planted)\n", bug.Name, bug.Breaks, "-")
			continue
		}
		if d, ok := direct[bug.Name]; ok {
			fmt.Printf("%-16s %-56s %6s  %s\n", bug.Name, bug.Breaks, "test", d.check(t, bug.Name, binaries))
			if !*plantedRare && !ofRegions[bug.Name] || noWorld[bug.Name] {
				continue
			}
		}
		planted.Plant(bug.Name)
		seeds, problem := catch(t, bug.Name)
		if problem == "" {
			t.Errorf("%s is not caught by %d seeds", bug.Name, seeds)
			fmt.Printf("%-16s %-56s %6d  not caught\n", bug.Name, bug.Breaks, seeds)
			continue
		}
		fmt.Printf("%-16s %-56s %6d  %s\n", bug.Name, bug.Breaks, seeds, clip(problem))
	}
	planted.Plant("")
}

// rare are the bugs that take hundreds of seeds, and have no test of their own.
var rare = map[string]bool{planted.LastCommit: true}

// noWorld are those that no World is expected to find: a message that is late by more
// than what a round collects, at two owners at once.
var noWorld = map[string]bool{planted.SpendPromises: true, planted.LeaveUndecided: true}

// direct are tests of single packages that catch bugs for which a World needs
// more than chance gives it in minutes: a partition that is back before everybody
// has what its node minted last, two copies in a row that nobody waits for, a
// write by an old topology and a read by the new in the same half second,
// a session that waits for what is lost until a round has said so.
var direct = map[string]direction{
	planted.IgnoreEpoch:    {"node/replica", "TestAdoptFencesTheQueue"},
	planted.SwitchUnsynced: {"node/handoff", "TestAcceptLoss"},
	planted.ReuseDropped:   {"node/replica", "TestDropAndRegain"},
	planted.HideLosses:     {"node/nodetest", "TestLossIsTold"},
	planted.NoLevelling:    {"node/nodetest", "TestRegionLost"},
	planted.NoSettling:     {"node/nodetest", "TestUndecidedMoves"},
	planted.LeaveUndecided: {"node/nodetest", "TestProposerIsGone"},
	planted.NoLease:        {"node/nodetest", "TestLease"},
	planted.StaleMap:       {"node/regions", "TestOldMaps"},
	planted.AckBeforeApply: {"geo", "TestDrainJudgesBatches"},
	planted.SpendPromises:  {"node/replica", "TestSpendStates"},
	planted.Republish:      {"node/replica", "TestOutboxShipsOwnWritesOnly"},
}

type direction struct{ pkg, test string }

// check runs the test, which must pass, and fail with the bug planted. binaries are
// those of other packages' tests, by package.
func (d direction) check(t *testing.T, bug string, binaries map[string]string) string {
	run := func(bug string) ([]byte, error) {
		cmd := exec.Command(binaries[d.pkg], "-test.timeout=2m", "-test.run=^"+d.test+"$", "-test.v")
		cmd.Dir = filepath.Join("../..", d.pkg)
		cmd.Env = append(os.Environ(), planted.Variable+"="+bug)
		return cmd.CombinedOutput()
	}
	if out, err := run(""); err != nil || !bytes.Contains(out, []byte("--- PASS: "+d.test)) {
		t.Errorf("%s of %s does not pass without a bug: %v\n%s", d.test, d.pkg, err, out)
	}
	if out, err := run(bug); err == nil || !bytes.Contains(out, []byte("--- FAIL: "+d.test)) {
		t.Errorf("%s is not caught by %s of %s: %v\n%s", bug, d.test, d.pkg, err, out)
		return "not caught"
	}
	return fmt.Sprintf("%s of %s", d.test, d.pkg)
}

// directBinaries builds the tests of each package once: they run with a bug and without.
// This package's are the program that runs.
func directBinaries(t *testing.T) map[string]string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, binaries := t.TempDir(), map[string]string{}
	var others []string
	for bug, d := range direct {
		switch {
		case binaries[d.pkg] != "" || *plantedOnly != "" && *plantedOnly != bug:
		case d.pkg == "node/nodetest":
			binaries[d.pkg] = self
		default:
			binaries[d.pkg] = filepath.Join(dir, path.Base(d.pkg)+".test")
			others = append(others, "github.com/atolldb/atoll/"+d.pkg)
		}
	}
	if len(others) == 0 {
		return binaries
	}
	build := append([]string{"test", "-c", "-tags", "planted", "-o", dir + "/"}, others...)
	if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
		t.Fatalf("build the tests: %v\n%s", err, out)
	}
	return binaries
}

// ofRegions are the bugs that show where things happen to whole regions.
var ofRegions = map[string]bool{planted.NoLevelling: true, planted.StaleMap: true, planted.AckBeforeApply: true, planted.Republish: true}

// moves are the bugs that show only where members come and go, and collects
// those that do where tombstones are collected. For all others the members stay:
// that finds them sooner.
var moves = map[string]bool{planted.HalfSlot: true, planted.IgnoreEpoch: true, planted.SwitchUnsynced: true, planted.ReuseDropped: true, planted.LastCommit: true}
var collects = map[string]bool{planted.NoLateRule: true, planted.NoRejoin: true, planted.DropByAge: true}

func clip(s string) string {
	if len(s) > 90 {
		return s[:90] + "..."
	}
	return s
}

// catch runs Worlds until one has a problem.
func catch(t *testing.T, bug string) (seeds int, problem string) {
	for seeds = 1; seeds <= *plantedMax; seeds++ {
		seed := *plantedSeed + uint64(seeds) - 1
		shape := Shape{Regions: 1 + seeds%2, Nodes: 3 + seeds/2%2, Partitions: 8, Churn: moves[bug], Sessions: bug == planted.IgnoreSession, Collect: collects[bug], Settled: !moves[bug] && !collects[bug]}
		length := time.Minute
		if shape.Settled {
			length = 30 * time.Second
		}
		if a, ok := aims[bug]; ok {
			shape, length = a.shape, a.length
		}
		synctest.Test(t, func(t *testing.T) {
			quiet := &judge{TB: t}
			var r Report
			if ofRegions[bug] {
				r = SimulateDisasters(quiet, seed, disasterShape(seed), disasterLength, hclog.NewNullLogger())
			} else {
				r = Simulate(quiet, seed, shape, length, hclog.NewNullLogger())
			}
			if problems := append(quiet.problems, r.Problems...); len(problems) > 0 {
				problem = problems[0]
			}
		})
		if problem != "" {
			return seeds, problem
		}
	}
	return seeds - 1, ""
}

// judge keeps what would fail the test.
type judge struct {
	testing.TB
	problems []string
}

func (j *judge) Errorf(format string, args ...any) {
	j.problems = append(j.problems, strings.TrimSpace(fmt.Sprintf(format, args...)))
}
