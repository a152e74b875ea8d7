package hashring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// vnodeRing is the textbook's ring, kept as the planner's dumb twin: every node
// throws tokens * weight random points on the circle; a key belongs to the
// first nodes of distinct racks met clockwise. It needs no planning, and pays
// in balance.
type vnodeRing struct {
	points []vnodePoint
	rack   map[string]string
}

type vnodePoint struct {
	at uint64
	id string
}

func makeVnodeRing(members []Member, tokens int, seed uint64) vnodeRing {
	r := vnodeRing{rack: make(map[string]string)}
	for _, m := range members {
		// A node's points depend on it alone: others keep theirs when it comes.
		rng := rand.New(rand.NewPCG(seed, xxhash.Sum64String(m.ID)))
		r.rack[m.ID] = m.Rack
		for range tokens * max(m.Weight, 1) {
			r.points = append(r.points, vnodePoint{at: rng.Uint64(), id: m.ID})
		}
	}
	slices.SortFunc(r.points, func(a, b vnodePoint) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	return r
}

// owners walks the circle from point i, first for distinct racks, then, if
// racks run out, for distinct nodes.
func (r vnodeRing) owners(i, replicas int) []string {
	var out []string
	var racks []string
	for pass := range 2 {
		for step := range r.points {
			if len(out) == replicas {
				return out
			}
			id := r.points[(i+step)%len(r.points)].id
			if slices.Contains(out, id) || pass == 0 && slices.Contains(racks, r.rack[id]) {
				continue
			}
			out, racks = append(out, id), append(racks, r.rack[id])
		}
	}
	return out
}

// load is the part of the hash space that each node owns, the whole being 1.
func (r vnodeRing) load(replicas int) map[string]float64 {
	load := make(map[string]float64)
	for i, pt := range r.points {
		width := float64(pt.at-r.points[(i+len(r.points)-1)%len(r.points)].at) / (1 << 64)
		for _, id := range r.owners(i, replicas) {
			load[id] += width
		}
	}
	return load
}

// table samples the ring at the middle of every partition.
func (r vnodeRing) table(partitions, replicas int) Table {
	rows := make([][]string, partitions)
	for p := range rows {
		first, last := Range(Partition(p), partitions)
		at := first + (last-first)/2
		i := sort.Search(len(r.points), func(i int) bool { return r.points[i].at >= at }) % len(r.points)
		rows[p] = r.owners(i, replicas)
	}
	return MakeTable(rows)
}

// worst is the busiest node's load over its part by weight.
func worstLoad(load map[string]float64, members []Member, replicas int) float64 {
	weight, worst := 0, 0.0
	for _, m := range members {
		weight += max(m.Weight, 1)
	}
	for _, m := range members {
		worst = max(worst, load[m.ID]*float64(weight)/float64(max(m.Weight, 1))/float64(min(replicas, len(members))))
	}
	return worst
}

func TestVnodeTwinCoversTheRing(t *testing.T) {
	members := cluster(7, 3)
	ring := makeVnodeRing(members, 16, 1)
	sum := 0.0
	for _, part := range ring.load(3) {
		sum += part
	}
	if sum < 2.999 || sum > 3.001 {
		t.Fatalf("nodes own %.4f of the ring, want 3 times all of it", sum)
	}
	for p, owners := range ring.table(64, 3).All() {
		if len(owners) != 3 {
			t.Fatalf("partition %d has owners %v", p, owners)
		}
	}
}

// cluster is n nodes dealt to racks in turn.
func cluster(n, racks int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{ID: fmt.Sprintf("n%03d", i), Rack: fmt.Sprintf("r%d", i%racks)}
	}
	return out
}
