package hashring

import (
	"cmp"
	"slices"
)

// Shares: how many copies each node should hold.
//
// A table in which node n owns t(n) partitions exists if and only if the t sum
// up to copies * P, no t(n) exceeds P and no rack's sum exceeds limit * P:
// giving every partition the fraction t(n)/P of each node satisfies each
// partition's rules, and a flow with integral bounds has an integral solution.
// So balance is a question of counts alone, answered by water-filling: raise
// one level, give each node level * weight, and stop the nodes that reach P
// and the racks that reach limit * P. All of it is integer arithmetic, because
// the planner must answer alike on processors that fuse floating-point
// operations and on those that do not.

// share is the fair part of a node: num/den partitions. Nodes of one pool
// share a denominator and a remainder, so which of them is rounded up makes
// no difference to the balance.
type share struct {
	num, den int64
	basin    int // nodes fed from one level; -1 for a node that is full
}

func (s share) floor() int64     { return s.num / s.den }
func (s share) remainder() int64 { return s.num % s.den }

// waterfill computes the shares of all nodes.
func waterfill(r *roster, partitions, copies, limit int) []share {
	out := make([]share, r.size())
	full := make([]bool, r.size())
	shut := make([]bool, len(r.racks))
	each := int64(partitions)
	room := func(z int) int64 { return int64(min(limit, len(r.racks[z]))) * each }

	var open []int32
	water, weight := int64(0), int64(0)
	// Whatever is bound at a level stays bound at a higher one, and each
	// round's level is at most the final one; so nothing is bound in error.
	for {
		open, water, weight = open[:0], int64(copies)*each, 0
		for z, nodes := range r.racks {
			if shut[z] {
				water -= room(z)
				continue
			}
			for _, n := range nodes {
				if full[n] {
					water -= each
				} else {
					open, weight = append(open, n), weight+r.weight[n]
				}
			}
		}
		bound := false
		for z, nodes := range r.racks {
			if shut[z] {
				continue
			}
			sum := int64(0) // times weight
			for _, n := range nodes {
				if full[n] {
					sum += each * weight
				} else {
					sum += min(each*weight, water*r.weight[n])
				}
			}
			if sum >= room(z)*weight {
				shut[z], bound = true, true
			}
		}
		for _, n := range open {
			if !shut[r.rack[n]] && water*r.weight[n] >= each*weight {
				full[n], bound = true, true
			}
		}
		if !bound {
			break
		}
	}
	for n := range out {
		out[n] = share{num: each, den: 1, basin: -1} // full, or overwritten below
	}
	for _, n := range open {
		out[n] = share{num: water * r.weight[n], den: weight, basin: 0}
	}
	for z, nodes := range r.racks {
		if shut[z] {
			fillRack(r, out, nodes, room(z), each, z+1)
		}
	}
	return out
}

// fillRack divides water among the nodes of a rack, each holding at most each.
func fillRack(r *roster, out []share, nodes []int32, water, each int64, basin int) {
	open := slices.Clone(nodes)
	for {
		weight := int64(0)
		for _, n := range open {
			weight += r.weight[n]
		}
		brimful := func(n int32) bool { return water*r.weight[n] >= each*weight }
		rest := water
		for _, n := range open {
			if brimful(n) {
				out[n] = share{num: each, den: 1, basin: -1}
				rest -= each
			} else {
				out[n] = share{num: water * r.weight[n], den: weight, basin: basin}
			}
		}
		before := len(open)
		open = slices.DeleteFunc(open, brimful)
		if len(open) == before || len(open) == 0 {
			return
		}
		water = rest
	}
}

// round turns shares into counts: each rounded down, and what is left over to
// the largest remainders of its basin. Among equal remainders nodes that hold
// more than the floor today come first (it saves a move), then racks in turn.
func round(r *roster, shares []share, partitions, limit int, held []int) []int {
	target := make([]int, len(shares))
	basins := make(map[int][]int32)
	left := make(map[int]int64) // times den
	den := make(map[int]int64)
	spare := make([]int, len(r.racks))
	rank := make([]int, len(shares))
	for z, nodes := range r.racks {
		spare[z] = limit * partitions
		for i, n := range nodes {
			s := shares[n]
			target[n], rank[n] = int(s.floor()), i
			spare[z] -= target[n]
			if s.basin >= 0 {
				basins[s.basin] = append(basins[s.basin], n)
				left[s.basin] += s.remainder()
				den[s.basin] = s.den
			}
		}
	}
	for basin, nodes := range basins { // basins do not touch each other
		slices.SortFunc(nodes, func(a, b int32) int {
			return cmp.Or(
				cmp.Compare(shares[b].remainder(), shares[a].remainder()),
				cmp.Compare(min(1, max(0, held[b]-target[b])), min(1, max(0, held[a]-target[a]))),
				cmp.Compare(rank[a], rank[b]),
				cmp.Compare(a, b),
			)
		})
		more := left[basin] / den[basin]
		for _, n := range nodes {
			if more > 0 && spare[r.rack[n]] > 0 {
				target[n]++
				spare[r.rack[n]]--
				more--
			}
		}
	}
	return target
}

// tooFull is the excess over a node's part by weight that Balanced accepts.
const tooFull = 1.25

// rackLimit is how many owners of one partition a rack may hold.
func rackLimit(r *roster, rules Rules) int {
	copies := r.copies(rules.Replicas)
	strict := r.narrowest(copies)
	if rules.ZonePolicy == Strict {
		return strict
	}
	best, lowest := strict, 0.0
	for limit := strict; limit == strict || limit < copies; limit++ {
		excess := excessOf(r, waterfill(r, rules.Partitions, copies, limit), rules.Partitions, copies)
		if limit == strict || excess < lowest {
			best, lowest = limit, excess
		}
		if lowest <= tooFull {
			break
		}
	}
	return best
}

// excessOf is the largest load per weight over the mean load per weight.
func excessOf(r *roster, shares []share, partitions, copies int) float64 {
	weight, top := int64(0), 0.0
	for n, s := range shares {
		weight += r.weight[n]
		top = max(top, float64(s.num)/float64(s.den)/float64(r.weight[n]))
	}
	return top * float64(weight) / float64(partitions*copies)
}
