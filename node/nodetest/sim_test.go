package nodetest

import (
	"flag"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

var (
	simSeed    = flag.Uint64("sim.seed", 1, "first seed")
	simN       = flag.Int("sim.n", seeds(8), "number of seeds")
	simCollect = flag.Uint64("sim.collect", 3, "collect tombstones in every n-th seed, 0 for none")
	simParted  = flag.Int("sim.parted", seeds(4), "number of seeds with buckets that not every region has")
	simWatch   = flag.Duration("sim.watch", 0, "how often a watcher looks whether any read could miss a write, 0 for never")
	simLog     = flag.String("sim.log", "off", "log level of the nodes")
)

func judgeWorld(t *testing.T, seed uint64, r Report) {
	t.Helper()
	t.Log(r)
	for _, p := range r.Problems {
		t.Error(p)
	}
	if t.Failed() {
		t.Fatalf("replay: make sim SEED=%d N=1", seed)
	}
}

func TestSim(t *testing.T) {
	began := time.Now()
	var simulated time.Duration
	var verdict verdicts
	var loose, broken int
	var mu sync.Mutex
	eachSeed(t, *simSeed, *simN, func(t *testing.T, seed uint64) {
		shape := Shape{Regions: 1 + int(seed%2), Nodes: 3 + int(seed/2%2), Partitions: 8, Churn: seed%5 == 0, Sessions: seed%4 < 2, Collect: *simCollect > 0 && seed%*simCollect == 0, Watch: *simWatch}
		var r Report
		synctest.Test(t, func(t *testing.T) {
			log := hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(*simLog), Output: os.Stderr})
			r = Simulate(t, seed, shape, time.Minute, log)
		})
		mu.Lock()
		simulated += r.Simulated
		verdict.add(r)
		loose, broken = loose+r.LooseOps, broken+r.LooseBroken
		mu.Unlock()
		judgeWorld(t, seed, r)
	})
	t.Log(verdict)
	t.Logf("without tokens of sessions %d of %d operations broke what a session is promised", broken, loose)
	if loose > 10000 && broken == 0 {
		t.Error("the checker of sessions saw nothing")
	}
	t.Logf("%d seeds, %v simulated in %v (%.0fx)", *simN, simulated.Round(time.Second), time.Since(began).Round(time.Millisecond),
		simulated.Seconds()/time.Since(began).Seconds())
}
