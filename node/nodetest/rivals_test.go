package nodetest

import (
	"flag"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/peer/memnet"
)

var simRivals = flag.Int("sim.rivals", seeds(2), "number of seeds with clients who write one key in turn and never read it")

const rivalLength = 20 * time.Second

// rivalShape: nodes do not hear each other, or regions, and in between there is time to
// find out what all have.
func rivalShape(regions int) Shape {
	return Shape{Regions: regions, Nodes: 3, Partitions: 2, Settled: true, Rivals: 2, Focus: &Focus{
		faults: []fault{(*World).cutNodes, (*World).cutRegions}, every: 4 * time.Second,
		noise: memnet.Faults{MaxDelay: 10 * time.Millisecond},
	}}
}

// Two who write one key in turn, each by his own answers, at any node of any region,
// take nothing away that they have not seen, although owners settle what they would
// have to be told of: while links are cut, and nodes crash. In one World of three a
// node may be no owner.
func TestSimRivals(t *testing.T) {
	var mu sync.Mutex
	settled := 0
	eachSeed(t, *simSeed, *simRivals, func(t *testing.T, seed uint64) {
		shape := rivalShape(2 + int(seed/2%2))
		if seed%3 == 0 {
			shape.Nodes, shape.Focus.faults = 4, append(shape.Focus.faults, (*World).flicker)
		}
		var r Report
		synctest.Test(t, func(t *testing.T) {
			r = Simulate(t, seed, shape, rivalLength, hclog.NewNullLogger())
		})
		mu.Lock()
		settled += r.RangesSettled
		mu.Unlock()
		judgeWorld(t, seed, r)
	})
	if settled == 0 && *simRivals > 0 {
		t.Error("no answer had fewer ranges than the one before: nothing was settled, so nothing was looked at")
	}
}
