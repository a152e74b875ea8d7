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
	proofOps = flag.Int("proof.ops", 2000, "operations by consensus to be judged, at least")
	proofFor = flag.Duration("proof.for", 40*time.Second, "simulated time with faults of each World")
)

// TestSerialProof: operations at LOCAL_SERIAL and SERIAL are linearizable, in
// Worlds that have hardly anything else.
func TestSerialProof(t *testing.T) {
	began := time.Now()
	var verdict verdicts
	var mu sync.Mutex
	const batch = 4
	seed := *simSeed
	for ; verdict.judged < *proofOps && !t.Failed(); seed += batch {
		eachSeed(t, seed, batch, func(t *testing.T, seed uint64) {
			var r Report
			synctest.Test(t, func(t *testing.T) {
				log := hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(*simLog), Output: os.Stderr})
				r = Simulate(t, seed, contest(seed), *proofFor, log)
			})
			t.Log(r)
			for _, p := range r.Problems {
				t.Error(p)
			}
			if t.Failed() {
				t.Fatalf("replay: make serial-proof SEED=%d OPS=1", seed)
			}
			if r.Judged == 0 {
				t.Fatalf("seed %d: nothing was judged", seed)
			}
			mu.Lock()
			defer mu.Unlock()
			verdict.add(r)
		})
	}
	t.Logf("seeds %d..%d in %v: %v", *simSeed, seed-1, time.Since(began).Round(time.Second), verdict)
}
