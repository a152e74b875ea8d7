package model

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	flagN     = flag.Int("model.n", 0, "number of histories (0: as many as suit a unit test)")
	flagSeed  = flag.Uint64("model.seed", 0, "first seed")
	flagTrace = flag.Bool("model.trace", false, "print the history of each seed")
	flagSteps = flag.Int("model.steps", 0, "steps of a history (0: the default)")
	flagQuiet = flag.Bool("model.nosilent", false, "Options.NoSilent")
	flagOwner = flag.Bool("model.believe-owners", false, "Options.BelieveOwners")
)

func histories() int {
	switch {
	case *flagN > 0:
		return *flagN
	case testing.Short():
		return 500
	}
	return unitHistories
}

// fail prints how a broken history went and how to see it again.
func fail(t *testing.T, opt Options, r Result) {
	t.Helper()
	opt.Trace = true
	again := New(opt).Run(r.Seed)
	t.Errorf("seed %d: %v\n%s\nreplay: go test ./crdt/model -run '^TestHistories$' -model.n=1 -model.seed=%d -model.trace",
		r.Seed, r.Violation, strings.Join(again.Trace, "\n"), r.Seed)
}

func TestHistories(t *testing.T) {
	opt := Options{Steps: *flagSteps, Trace: *flagTrace, BelieveOwners: *flagOwner, NoSilent: *flagQuiet}
	m := New(opt)
	var sum Stats
	failed, excusedLost := 0, 0
	start := time.Now()
	for i := range histories() {
		r := m.Run(*flagSeed + uint64(i))
		sum.Add(&r.Stats)
		if r.Stats.ExcusedLost > 0 {
			excusedLost++
		}
		if *flagTrace {
			t.Log(strings.Join(r.Trace, "\n"))
		}
		if r.Violation != nil {
			if failed++; failed <= 3 {
				fail(t, opt, r)
			} else {
				t.Logf("seed %d: %v", r.Seed, r.Violation)
			}
			if failed == 50 {
				break
			}
		}
	}
	t.Logf("%d histories, %d violations, %d lost an excused write, %.0f histories/s\n%v",
		histories(), failed, excusedLost, float64(histories())/time.Since(start).Seconds(), &sum)
}
