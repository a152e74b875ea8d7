package model

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	flagN      = flag.Int("model.n", 0, "number of histories (0: as many as suit a unit test)")
	flagSeed   = flag.Uint64("model.seed", 0, "first seed")
	flagPar    = flag.Int("model.workers", 1, "goroutines")
	flagTrace  = flag.Bool("model.trace", false, "print the history of each seed")
	flagSteps  = flag.Int("model.steps", 0, "steps of a history (0: the default)")
	flagOwners = flag.Bool("model.believe-owners", false, "Options.BelieveOwners")
	flagVotes  = flag.Bool("model.silent-votes", false, "Options.SilentVotes")
)

func options() Options {
	return Options{Steps: *flagSteps, Trace: *flagTrace, BelieveOwners: *flagOwners, SilentVotes: *flagVotes}
}

func count() int {
	switch {
	case *flagN > 0:
		return *flagN
	case testing.Short():
		return unitHistories / 10
	}
	return unitHistories
}

// sum is what a run of many histories came to.
type sum struct {
	stats                  Stats
	n, failed              int
	lost, revived, sideLog int // histories with such an outcome
}

// run plays histories and reports those that break an invariant.
func run(t *testing.T, opt Options) sum {
	t.Helper()
	out, start := sum{n: count()}, time.Now()
	results := make(chan Result, 64)
	for w := range *flagPar {
		go func() {
			m := New(opt)
			for i := w; i < out.n; i += *flagPar {
				results <- m.Run(*flagSeed + uint64(i))
			}
		}()
	}
	for range out.n {
		r := <-results
		out.stats.Add(&r.Stats)
		out.lost += min(1, r.Stats.ExcusedLost)
		out.revived += min(1, r.Stats.Revived)
		out.sideLog += min(1, r.Stats.OnlyInSideLogs)
		if *flagTrace {
			t.Log(strings.Join(r.Trace, "\n"))
		}
		if r.Violation != nil {
			if out.failed++; out.failed <= 3 {
				report(t, opt, r)
			} else if out.failed <= 30 {
				t.Errorf("seed %d: %v", r.Seed, r.Violation)
			}
		}
	}
	t.Logf("%d histories, %d violations, %.0f histories/s; with an excused loss %d, revival %d, side log %d\n%v",
		out.n, out.failed, float64(out.n)/time.Since(start).Seconds(), out.lost, out.revived, out.sideLog, &out.stats)
	return out
}

// report prints how a broken history went and how to see it again.
func report(t *testing.T, opt Options, r Result) {
	t.Helper()
	opt.Trace = true
	again := New(opt).Run(r.Seed)
	t.Errorf("seed %d: %v\n%s\nreplay: go test ./crdt/model -v -run '^%s$' -model.n=1 -model.seed=%d -model.trace",
		r.Seed, r.Violation, strings.Join(again.Trace, "\n"), t.Name(), r.Seed)
}

// Nothing is excused when disks keep what they keep.
func TestHistories(t *testing.T) {
	opt := options()
	opt.NoSilent = true
	s := run(t, opt)
	if s.lost+s.revived+s.sideLog > 0 {
		t.Errorf("excused without a silent fault: %+v", s)
	}
	if *flagN == 0 {
		busy(t, &s.stats, map[string]bool{"silent faults": true, "excused": true, "excused and lost": true, "revived": true, "only in side logs": true, "excused, given up": true})
	}
}

// Nor when clients write in both regions, and go on from answers that nobody but
// the minter has.
func TestRoaming(t *testing.T) {
	opt := options()
	opt.NoSilent, opt.Roaming = true, true
	s := run(t, opt)
	if s.lost+s.revived+s.sideLog > 0 {
		t.Errorf("excused without a silent fault: %+v", s)
	}
}

// With a disk that lies, in each history one, what is excused must stay rare.
func TestSilentFaults(t *testing.T) {
	s := run(t, options())
	if *flagN > 0 || testing.Short() {
		return
	}
	busy(t, &s.stats, map[string]bool{"revived": true, "only in side logs": true, "excused, given up": true})
	for _, c := range []struct {
		what     string
		got, per int // at most one history in so many
	}{{"an excused loss", s.lost, 200}, {"a revival", s.revived, 2000}, {"a write only in a side log", s.sideLog, 2000}} {
		if c.got*c.per > s.n {
			t.Errorf("%d of %d histories end with %s, more than one in %d", c.got, s.n, c.what, c.per)
		}
	}
}

// busy checks that all that can happen does: a model that finds nothing must
// have looked.
func busy(t *testing.T, s *Stats, rare map[string]bool) {
	t.Helper()
	for _, f := range s.fields() {
		if *f.n == 0 && !rare[f.name] {
			t.Errorf("never happened: %s", f.name)
		}
	}
}

// A history is a function of its seed, whatever ran before in the same memory.
func TestDeterministic(t *testing.T) {
	opt := Options{Trace: true}
	used := New(opt)
	for seed := range uint64(200) {
		a, b := used.Run(seed), New(opt).Run(seed)
		if x, y := strings.Join(a.Trace, "\n"), strings.Join(b.Trace, "\n"); x != y || a.Stats != b.Stats {
			t.Fatalf("seed %d:\n%s\n\n%s", seed, x, y)
		}
	}
}

func BenchmarkHistory(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	for seed := uint64(0); b.Loop(); seed++ {
		m.Run(seed)
	}
}
