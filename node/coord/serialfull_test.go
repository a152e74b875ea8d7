package coord_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
)

// Where a conditional write finds no quorum since disks are full, it says so: that owners
// did not answer would send people to look for nodes that are down.
func TestSerialOnFullDisks(t *testing.T) {
	for name, c := range map[string]struct {
		full int
		want coord.Code
	}{
		"a quorum of the owners":       {2, coord.CodeDiskFull},
		"one, and another one is down": {1, coord.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				owners := r.owners("default", "k")
				a, others := owners[0], owners[1:]
				for i, m := range others {
					if i < c.full {
						a.wire.answers(peer.VerbSerial, m.id, time.Millisecond, &peer.Refusal{Code: peer.CodeFull, Detail: "disk is full"})
					} else {
						a.wire.answers(peer.VerbSerial, m.id, time.Millisecond, peer.ErrNotSent)
					}
				}
				_, err := a.put(t, serialPut("k", "v", ifAbsent))
				if err == nil || err.Code != c.want {
					t.Fatalf("got %+v, want code %v", err, c.want)
				}
				if c.want == coord.CodeDiskFull && err.Needed != 0 {
					t.Errorf("it says that %d of %d owners answered", err.Acks, err.Needed)
				}
				if said := strings.Contains(err.Detail, string(others[0].id)) && strings.Contains(err.Detail, "full"); said != (c.want == coord.CodeDiskFull) {
					t.Errorf("it says %q", err.Detail)
				}
			})
		})
	}
}
