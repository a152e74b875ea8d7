package coord_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// What a lone put at LOCAL_QUORUM waits for beside four clients who write other keys,
// each once in five milliseconds, in simulated time: there is no processor to wait for,
// only syncs of a millisecond. Those of decisions are in nobody's way, since what is
// decided already is synced with what comes next. And a decision itself, while nobody
// else proposes for its key, takes at most half as long again as a put.
func TestPutBesideSerial(t *testing.T) {
	measure := func(lone, level quorum.Level) (at func(part float64) time.Duration) {
		var took []time.Duration
		synctest.Test(t, func(t *testing.T) {
			top, coords := benchRegionOn(t, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
			owner, _ := roles(top, coords, "k0")
			put := func(key string, level quorum.Level) error {
				done := make(chan error, 1)
				owner.Put(coord.Put{Key: []byte(key), Value: make([]byte, 100), Level: level, Deadline: time.Now().Add(time.Second), Overwrite: level != quorum.LocalSerial},
					func(_ coord.PutResult, err error) { done <- err })
				return <-done
			}
			time.Sleep(time.Second) // until new acceptors take the ballots of now
			end := time.Now().Add(10 * time.Second)
			var beside sync.WaitGroup
			worker := func(i int, key string, level quorum.Level, each func(time.Duration)) {
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				beside.Go(func() {
					for time.Now().Before(end) {
						time.Sleep(time.Duration(rng.ExpFloat64() * float64(5*time.Millisecond)))
						began := time.Now()
						if err := put(key, level); err != nil {
							t.Error(err)
							return
						}
						each(time.Since(began))
					}
				})
			}
			for i := range 4 {
				worker(i, fmt.Sprint("beside ", i), level, func(time.Duration) {})
			}
			worker(9, "k0", lone, func(d time.Duration) { took = append(took, d) })
			beside.Wait()
		})
		slices.Sort(took)
		t.Logf("%v beside %v: %d puts", lone, level, len(took))
		return func(part float64) time.Duration { return took[int(part*float64(len(took)-1))] }
	}
	plain, serial := measure(quorum.LocalQuorum, quorum.LocalQuorum), measure(quorum.LocalQuorum, quorum.LocalSerial)
	decided := measure(quorum.LocalSerial, quorum.LocalQuorum)
	if p, d := plain(.5), decided(.5); float64(d) > 1.5*float64(p) {
		t.Errorf("a decision takes %v, a put %v", d, p)
	} else {
		t.Logf("50 %%: a decision takes %v, a put %v", d, p)
	}
	for _, part := range []float64{.5, .75, .9, .99} {
		p, s := plain(part), serial(part)
		t.Logf("%2.0f %%: %v beside plain puts, %v beside decisions, %.2f times", 100*part, p, s, float64(s)/float64(p))
		if float64(s) > 1.15*float64(p) {
			t.Errorf("decisions on other keys make a plain put slower at %.0f %%", 100*part)
		}
	}
}
