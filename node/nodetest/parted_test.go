package nodetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Buckets of some regions, in Worlds of two and of three regions, with all that
// goes wrong there: no region gets a record that it is not to have, and clocks
// are equal everywhere all the same.
func TestParted(t *testing.T) {
	eachSeed(t, *simSeed, *simParted, func(t *testing.T, seed uint64) {
		shape := Shape{Regions: 2 + int(seed%2), Nodes: 3, Partitions: 8, Parted: true, Settled: seed%3 != 0, Collect: seed%4 == 1}
		if seed%3 == 0 {
			shape.Index = 2 << 10
		}
		var r Report
		synctest.Test(t, func(t *testing.T) {
			r = Simulate(t, seed, shape, 30*time.Second, hclog.NewNullLogger())
		})
		judgeWorld(t, seed, r)
	})
}
