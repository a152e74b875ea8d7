package nodetest

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

var disasterN = flag.Int("disaster.n", seeds(8), "number of seeds in which all kinds of things happen to regions")

const disasterLength = 15 * time.Second

// disasterShape has two regions, three, or now and then four: then two of them are no
// majority, and no single one is needed for one.
func disasterShape(seed uint64) Shape {
	regions := 2 + int(seed%3+1)/2
	if seed%25 == 5 {
		regions = 4
	}
	return Shape{Regions: regions, Nodes: 3, Partitions: 4, Settled: true, Disasters: true}
}

// Whatever befalls regions and whatever operators do at the wrong moment: nothing is
// lost that was promised, what is printed as missing is what is missing, and everything
// ends equal, in service, by one map.
func TestDisasters(t *testing.T) {
	began := time.Now()
	var simulated time.Duration
	count := map[string]int{}
	var story []string
	var mu sync.Mutex
	eachSeed(t, *simSeed, *disasterN, func(t *testing.T, seed uint64) {
		var r Report
		synctest.Test(t, func(t *testing.T) {
			log := hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(*simLog), Output: os.Stderr})
			r = SimulateDisasters(t, seed, disasterShape(seed), disasterLength, log)
		})
		mu.Lock()
		simulated += r.Simulated
		story = append(story, r.Story...)
		for kind, n := range r.Counts {
			count[kind] += n
		}
		mu.Unlock()
		if len(r.Problems) > 0 || t.Failed() {
			for _, p := range r.Problems {
				t.Error(p)
			}
			t.Fatalf("%s\nwhat happened:\n  %s\nagain, as far as a seed goes: make sim-disasters SEED=%d N=1", r, strings.Join(r.Story, "\n  "), seed)
		}
	})
	if testing.Verbose() && *simLog != "off" {
		t.Log(strings.Join(story, "\n"))
	}
	t.Logf("%d seeds, %v simulated in %v: %s", *disasterN, simulated.Round(time.Second), time.Since(began).Round(time.Millisecond), countsOf(count))
}
