package cas

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	flagN     = flag.Int("cas.n", 0, "number of histories of each kind (0: as many as suit a unit test)")
	flagSeed  = flag.Uint64("cas.seed", 0, "first seed")
	flagTrace = flag.Bool("cas.trace", false, "print the history of each seed")
)

func histories(t *testing.T, few int) int {
	t.Helper()
	if *flagN > 0 {
		return *flagN
	}
	if testing.Short() {
		return few / 10
	}
	return few
}

const modelSteps = 220

func (s *modelStats) add(o modelStats) {
	s.done += o.done
	s.failed += o.failed
	s.refused += o.refused
	s.unknown += o.unknown
	s.reads += o.reads
	s.unprepared += o.unprepared
	s.changed += o.changed
	s.crashes += o.crashes
	s.wipes += o.wipes
	s.plainAck += o.plainAck
	s.retries += o.retries
	s.replays += o.replays
	s.spent += o.spent
	s.collected += o.collected
}

func TestModel(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  modelOptions
	}{
		{"three acceptors", modelOptions{nodes: 3}},
		{"three acceptors and plain writes", modelOptions{nodes: 3, plain: true}},
		{"three acceptors and rounds of collection", modelOptions{nodes: 3, rounds: 300}},
		{"three acceptors, plain writes and rounds", modelOptions{nodes: 3, plain: true, rounds: 300}},
		{"five acceptors", modelOptions{nodes: 5}},
		{"five acceptors and plain writes", modelOptions{nodes: 5, plain: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sum modelStats
			n, bad, began := histories(t, 4000), 0, time.Now()
			for seed := *flagSeed; seed < *flagSeed+uint64(n); seed++ {
				opt := c.opt
				opt.trace = *flagTrace
				m := newModel(opt, seed)
				err := m.run(modelSteps)
				sum.add(m.stats)
				if *flagTrace {
					t.Log(strings.Join(m.log, "\n"))
				}
				if err != nil {
					if bad++; bad <= 2 {
						opt.trace = true
						again := newModel(opt, seed)
						_ = again.run(modelSteps)
						t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(again.log, "\n"))
					}
				}
			}
			t.Logf("%d histories, %d bad, %s: %+v", n, bad, time.Since(began).Round(time.Millisecond), sum)
			if *flagN == 0 && (sum.done == 0 || sum.failed == 0 || sum.unknown == 0 || sum.unprepared == 0 || sum.changed == 0 && c.opt.plain || sum.crashes == 0 || sum.wipes == 0 || sum.retries == 0 || sum.replays == 0 || c.opt.rounds > 0 && (sum.spent == 0 || sum.collected == 0)) {
				t.Errorf("something never happened: %+v", sum)
			}
		})
	}
}
