package coord

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

func region(t interface{ Fatal(...any) }, racks []int, replicas int) *topology.Topology {
	var members []topology.Member
	for i, r := range racks {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint("n", i)), Rack: fmt.Sprint("r", r), Weight: 1})
	}
	top, err := topology.Static("east", 1, members, hashring.Rules{Partitions: 8, Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// Every node outside the row can stand in, once; the first ones are of distinct
// racks, and the first rack is the one behind that of the row's last server.
func TestStandIns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		racks := rapid.SliceOfN(rapid.IntRange(0, 4), 3, 12).Draw(t, "racks")
		top := region(t, racks, 3)
		out := rapid.IntRange(0, len(racks)-1).Draw(t, "draining")
		top = top.Clone()
		top.Members[out].State = topology.Draining
		firsts := map[topology.NodeID]bool{}
		for p := range hashring.Partition(8) {
			got := standIns(top, p)
			if !slices.Equal(got, standIns(top, p)) {
				t.Fatal("another order")
			}
			takers := top.Takers(p)
			free := map[string]int{}
			for _, m := range top.Members {
				may := m.State == topology.Up && !slices.Contains(takers, m.ID)
				if slices.Contains(got, m.ID) != may {
					t.Fatalf("partition %d: %v of %v", p, got, takers)
				}
				if may {
					free[m.Rack]++
				}
			}
			if len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
				t.Fatalf("twice: %v", got)
			}
			for i, id := range got[:min(len(free), len(got))] {
				for _, before := range got[:i] {
					if top.Member(before).Rack == top.Member(id).Rack {
						t.Fatalf("partition %d: %v share a rack before all racks are used", p, got)
					}
				}
			}
			if len(got) == 0 {
				continue
			}
			firsts[got[0]] = true
			last := top.Member(takers[len(takers)-1]).Rack
			for rack := range free {
				first := top.Member(got[0]).Rack
				if rack > last && (first <= last || rack < first) {
					t.Fatalf("partition %d begins in %s, and %s is nearer behind %s", p, first, rack, last)
				}
			}
		}
	})
}

// Where one rack has many nodes, partitions begin with different ones.
func TestStandInsAreSpread(t *testing.T) {
	racks := []int{0, 1, 2, 3, 3, 3, 3}
	top := region(t, racks, 3)
	firsts := map[topology.NodeID]int{}
	for p := range hashring.Partition(8) {
		if got := standIns(top, p); len(got) > 0 {
			firsts[got[0]]++
		}
	}
	if len(firsts) < 3 {
		t.Errorf("stand-ins that are asked first: %v", firsts)
	}
}
