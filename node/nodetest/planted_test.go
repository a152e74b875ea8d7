//go:build planted

package nodetest

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/planted"
)

var (
	plantedMax  = flag.Int("planted.max", 2000, "seeds after which a planted bug counts as not caught")
	plantedRare = flag.Bool("planted.rare", true, "also plant the bugs that take minutes to be found")
	plantedOnly = flag.String("planted.only", "", "plant this bug only")
)

// TestPlanted plants each bug in turn and looks for a seed that catches it.
// That the same Worlds find nothing without a bug is TestSim's part.
func TestPlanted(t *testing.T) {
	fmt.Printf("%-16s %-56s %6s  %s\n", "BUG", "RULE IT BREAKS", "SEEDS", "CAUGHT BY")
	for _, bug := range planted.All {
		if *plantedOnly != "" && *plantedOnly != bug.Name {
			continue
		}
		if rare[bug.Name] && !*plantedRare {
			fmt.Printf("%-16s %-56s %6s  not run: takes minutes to be found (make planted)\n", bug.Name, bug.Breaks, "-")
			continue
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

// rare are the bugs that take hundreds of seeds.
var rare = map[string]bool{planted.ReuseActor: true, planted.IgnoreEpoch: true, planted.SwitchUnsynced: true, planted.ReuseDropped: true, planted.LastCommit: true}

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
		seed := uint64(seeds)
		shape := Shape{Regions: 1 + seeds%2, Nodes: 3 + seeds/2%2, Partitions: 8, Churn: moves[bug], Sessions: bug == planted.IgnoreSession, Collect: collects[bug], Settled: !moves[bug] && !collects[bug]}
		length := time.Minute
		if shape.Settled {
			length = 30 * time.Second
		}
		synctest.Test(t, func(t *testing.T) {
			quiet := &judge{TB: t}
			r := Simulate(quiet, seed, shape, length, hclog.NewNullLogger())
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
