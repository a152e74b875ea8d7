package nodetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// A region that has lost all its disks, and with them the registry that counts its
// actors, takes none that another region has heard of: neither when it can ask them,
// nor when it is cut off from them.
func TestRegionEmptied(t *testing.T) {
	for name, alone := range map[string]bool{"linked": false, "cut off": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(t, 11, Shape{Regions: 3, Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
				defer w.Close()
				time.Sleep(10 * time.Second)
				w.toil(3*time.Second, 0, 1, 2)
				time.Sleep(5 * time.Second)
				const lost, margin = 2, 1 << 16
				var heard crdt.Actor
				for p := range hashring.Partition(w.shape.Partitions) {
					w.eachDot(0, p, func(d crdt.Dot) {
						if d.Actor.Region() == lost+1 {
							heard = max(heard, d.Actor)
						}
					})
				}
				w.hist.lose(lost, map[partitionDot]bool{})
				for _, id := range w.ids(lost) {
					m := w.member(id)
					w.Crash(m)
					if err := m.disk.Wipe(); err != nil {
						t.Fatal(err)
					}
					m.kept.Store(nil)
					m.registry.Forget()
				}
				w.stores[lost].Forget()
				w.cloud.Recreate(w.name(lost))
				if alone {
					w.fabric.Partition(w.ids(lost), append(w.ids(0), w.ids(1)...))
				}
				w.makeAnew(t.Context(), lost)
				for _, id := range w.ids(lost) {
					w.Start(w.member(id))
				}
				time.Sleep(15 * time.Second)
				for _, id := range w.ids(lost) {
					switch a := w.member(id).running.Load().node.Replica().Actor(); {
					case a == 0:
						t.Errorf("%s has no actor", id)
					case heard == 0 || a <= heard:
						t.Errorf("%s mints as %v again; the others have heard of %v", id, a, heard)
					case !alone && (a.Seq() <= heard.Seq()+margin || a.Seq() > heard.Seq()+margin+200):
						t.Errorf("%s mints as %v, not as who was told of %v", id, a, heard)
					}
				}
				w.toil(3*time.Second, 0, 1, 2)
				w.fabric.HealAll()
				if !w.settle(t.Context()) {
					t.Fatalf("not whole: %s", w.converged())
				}
				w.hist.once()
				for _, p := range w.hist.problems {
					t.Error(p)
				}
			})
		})
	}
}
