package regions

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Operations that were begun by two nodes at once have one number: that leases of
// one region have lapsed says nothing of those of the other.
func TestLapseIsOfOneRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		r := e.nodes["a1"]
		if _, err := r.SetLease(t.Context(), 8*time.Second, false); err != nil {
			t.Fatal(err)
		}
		s := NewSteer(r, SteerDeps{})
		m := r.Known().Map
		look := func(region string) string {
			return s.lapse(t.Context(), m, &failover.Operation{ID: 10, Kind: failover.Failover, Region: region})
		}
		if why := look("c"); !strings.Contains(why, "of c may hold") {
			t.Fatalf("it waits for %q", why)
		}
		time.Sleep(waits(m))
		if why := look("c"); why != "" {
			t.Fatalf("all leases of c have lapsed, and it waits for %q", why)
		}
		if why := look("b"); !strings.Contains(why, "of b may hold") {
			t.Errorf("leases of b were never waited for; it waits for %q", why)
		}
	})
}

// Who says that a grant is from the future, or says nonsense, grants nothing.
func TestGrantOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		for _, name := range []string{"b", "c"} {
			for _, id := range e.ids[name] {
				r := e.nodes[id]
				e.fabric.Node(id, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
					if len(req.Body) > 0 && req.Body[0] == askGrant {
						k := regionmap.EncodeKnown(r.Known())
						reply(append(binary.BigEndian.AppendUint64(nil, uint64(math.MaxUint64-uint64(time.Hour))), k...), nil)
						return
					}
					r.Handle(req, reply)
				})
			}
		}
		if _, err := e.nodes["a1"].SetLease(t.Context(), 8*time.Second, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if e.nodes["a1"].Leased() {
			t.Error("a lease rests on grants of the future")
		}
	})
}
