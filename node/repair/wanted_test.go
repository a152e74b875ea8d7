package repair_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// What a session waits for is fetched at once from the region that minted it,
// though no log carries it and no beat is due; by one owner, and spread from
// there. When that region is cut off, it is told what is missing.
func TestWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.beat = time.Hour
		w.startAll()
		// Right after a round of all with all.
		w.pass(3500 * time.Millisecond)
		put := coord.Put{Key: []byte("k"), Value: []byte("v"), Session: session.Begin()}
		res, err := w.nodes["a1"].put(put)
		if err != nil {
			t.Fatal(err)
		}
		read := func(m *member, within time.Duration) (coord.GetResult, time.Duration, error) {
			type outcome struct {
				res coord.GetResult
				err error
			}
			began, done := time.Now(), make(chan outcome, 1)
			m.coord.Get(coord.Get{Key: []byte("k"), Level: quorum.LocalOne, Session: res.Session, Deadline: began.Add(within)},
				func(res coord.GetResult, err error) { done <- outcome{res, err} })
			o := <-done
			return o.res, time.Since(began), o.err
		}
		got, took, err := read(w.nodes["b2"], 2*time.Second)
		if err != nil || len(got.View.Live) != 1 || took > 500*time.Millisecond {
			t.Errorf("after %v: %+v, %v", took, got.View, err)
		}
		w.pass(100 * time.Millisecond)
		var wanted, pulled uint64
		for _, m := range w.all() {
			wanted += m.repair.Stats().Wanted.Load()
			pulled += m.repair.Stats().PulledKeys.Load()
		}
		if wanted == 0 || pulled > 2 {
			t.Errorf("%d wants, %d records pulled for one", wanted, pulled)
		}
		for _, id := range []topology.NodeID{"b1", "b2", "b3"} {
			if w.nodes[id].has("k") != "v" {
				t.Errorf("%s does not have it", id)
			}
		}

		w.fabric.Partition([]topology.NodeID{"a1", "a2", "a3"}, []topology.NodeID{"b1", "b2", "b3"})
		put.Value = []byte("w")
		if res, err = w.nodes["a1"].put(put); err != nil {
			t.Fatal(err)
		}
		_, took, err = read(w.nodes["b2"], time.Second)
		var e *coord.Error
		if !errors.As(err, &e) || e.Code != coord.CodeSessionBehind || e.Missing != 1 || took < time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		w.fabric.HealAll()
		if _, took, err = read(w.nodes["b3"], 10*time.Second); err != nil || took > 6*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if r := w.nodes["b2"].Replica; r.Missing(partOf("k"), &crdt.Clock{}) != nil {
			t.Error("nothing is missing")
		}
	})
}
