//go:build chaos && linux

package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/program"
)

var (
	binaryFlag  = flag.String("chaos.binary", "", "the program; without it, built from the tree")
	seedFlag    = flag.Uint64("chaos.seed", 1, "what chance is drawn from")
	timesFlag   = flag.Int("chaos.times", 1, "how often each scenario injects its faults")
	pauseFlag   = flag.Duration("chaos.pause", 12*time.Second, "how long a process is paused; 35s at least in the scenario pause")
	awayFlag    = flag.Duration("chaos.away", 10*time.Second, "how long the node that catches up is away")
	randomFlag  = flag.Duration("chaos.random", 30*time.Second, "how long the random mix injects faults")
	rateFlag    = flag.Float64("chaos.rate", 300, "operations per second that clients ask for")
	recordsFlag = flag.Int("chaos.records", 20_000, "records of a region whose members change")
	steadyFlag  = flag.Float64("chaos.steady", 300, "operations per second of the steady load")
	barsFlag    = flag.Bool("chaos.bars", false, "hold latencies to their bars: for a machine that does nothing else")
	paceFlag    = flag.String("chaos.pace", "", "bytes a second that a node of the loaded region receives for moves; without it, the default")
	tableFlag   = flag.String("chaos.table", "", "write the table to this file, too")
	reportFlag  = flag.String("chaos.report", "", "write the results to this file, as JSON lines")
	keepFlag    = flag.String("chaos.keep", "", "copy the logs of failed scenarios into this directory")
)

// What all scenarios share: the run's part of the machine, what the machine
// cannot do, the pool of disks, and the results.
var shared struct {
	run     *machine.Run
	missing map[machine.Ability]error
	pool    *machine.Pool // nil where no disk can be mounted
	binary  string
	report  report
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	r, err := machine.NewRun()
	if err != nil {
		return fail(err)
	}
	shared.run = r
	defer func() {
		if err := r.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "chaos: clean up:", err)
		}
	}()
	shared.binary = *binaryFlag
	if shared.binary == "" {
		shared.binary = filepath.Join(r.Dir, "atoll")
		if err := program.Build(shared.binary); err != nil {
			return fail(err)
		}
	}
	shared.missing = r.Probe()
	if shared.missing[machine.Disks] == nil {
		if shared.pool, err = r.NewPool(64<<30, shared.missing[machine.Cloning] == nil); err != nil {
			return fail(err)
		}
	}
	code := m.Run()
	var table bytes.Buffer
	shared.report.table(&table)
	fmt.Print(table.String())
	if *tableFlag != "" {
		if err := os.WriteFile(*tableFlag, table.Bytes(), 0o644); err != nil {
			return fail(err)
		}
	}
	if *reportFlag != "" {
		if err := shared.report.save(*reportFlag); err != nil {
			return fail(err)
		}
	}
	return code
}
