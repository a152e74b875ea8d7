package hashring

// Exactness. A table is a flow: each partition sends its copies through its
// racks (at most limit each) to nodes (at most one each), and each node passes
// on its target. A copy costs 1 where the node does not hold the partition
// today. In the residual graph, folded onto the nodes, there is an arc a -> b
// if some partition may replace its owner a by b; its price is what that adds
// to the moves, -1, 0 or 1. Then
//
//   - targets not yet met are met along shortest paths from nodes above to
//     nodes below (Ford and Fulkerson; the targets are feasible, see share.go);
//   - the moves are the fewest possible when there is no cycle of negative
//     price (Klein 1967), so such cycles are undone until none is left.
//
// Arcs are counted per pair and price, so that a step updates only the rows
// that it changed.

// arc says that p replaces its owner from by to. A token arc has p < 0: it
// changes no slot, but lets from keep what its target gave to to.
type arc struct {
	from, to int32
	p        int
}

type residual struct {
	*layout
	count [3][]int32 // by price+1; [from*n+to], from == n stands for an empty slot
	crowd []int      // scratch, per rack
}

func makeResidual(l *layout) *residual {
	n := l.size()
	r := &residual{layout: l, crowd: make([]int, len(l.racks))}
	for i := range r.count {
		r.count[i] = make([]int32, (n+1)*n)
	}
	for p := range l.partitions {
		r.tally(p, 1)
	}
	return r
}

// tally adds sign to the count of every arc that p offers.
func (r *residual) tally(p int, sign int32) {
	row, n := r.row(p), int32(r.size())
	for _, o := range row {
		if o != none {
			r.crowd[r.rack[o]]++
		}
	}
	for b := range n {
		if r.slotOf(p, b) >= 0 {
			continue
		}
		priceB := 1
		if r.had(p, b) {
			priceB = 0
		}
		roomy := r.crowd[r.rack[b]] < r.limit
		for _, a := range row {
			if a == none {
				if roomy {
					r.count[priceB+1][n*n+b] += sign
				}
			} else if roomy || r.rack[a] == r.rack[b] {
				r.count[r.price(p, a, priceB)+1][a*n+b] += sign
			}
		}
	}
	for _, o := range row {
		if o != none {
			r.crowd[r.rack[o]]--
		}
	}
}

// price of replacing a in p by a node whose own price is priceB.
func (r *residual) price(p int, a int32, priceB int) int {
	if a == none || r.had(p, a) {
		return priceB
	}
	return priceB - 1
}

// cheapest returns the lowest price of an arc a -> b.
func (r *residual) cheapest(a, b int32) (price int, ok bool) {
	i := int(a)*r.size() + int(b)
	for c := range r.count {
		if r.count[c][i] > 0 {
			return c - 1, true
		}
	}
	return 0, false
}

// find returns the partition that offers a -> b at the price with the least
// cost to the spread.
func (r *residual) find(a, b int32, price int) int {
	best, bestCost := -1, int64(0)
	for p := range r.partitions {
		if r.slotOf(p, a) < 0 {
			continue
		}
		crowd, ok := r.fits(p, a, b)
		if !ok {
			continue
		}
		priceB := 1
		if r.had(p, b) {
			priceB = 0
		}
		if r.price(p, a, priceB) != price {
			continue
		}
		c := int64(crowd)<<52 + r.closeness(p, b, a)
		if best < 0 || c < bestCost {
			best, bestCost = p, c
		}
	}
	return best
}

// apply carries out arcs that do not get in each other's way.
func (r *residual) apply(arcs []arc) {
	slots := make([]int, len(arcs))
	for i, a := range arcs {
		if a.p >= 0 {
			slots[i] = r.slotOf(a.p, a.from)
		}
	}
	for i, a := range arcs {
		if a.p < 0 {
			r.target[a.from]++
			r.target[a.to]--
			continue
		}
		r.tally(a.p, -1)
		r.put(a.p, slots[i], a.to)
		r.tally(a.p, 1)
	}
}

// meetTargets moves slots along shortest paths until every node is at its
// target. The arcs of a shortest path never clash in one partition: if two of
// them would crowd a rack, the first could have gone where the second goes.
func (r *residual) meetTargets() {
	n := int32(r.size())
	from := make([]int32, n)
	for {
		empty := len(r.slot)
		for _, have := range r.load {
			empty -= have
		}
		var queue []int32
		for i := range from {
			from[i] = -2
			if r.load[i] > r.target[i] {
				from[i] = -1
				queue = append(queue, int32(i))
			}
		}
		if empty > 0 {
			queue = append(queue, n)
		}
		end := int32(-1)
		for len(queue) > 0 && end < 0 {
			a := queue[0]
			queue = queue[1:]
			for b := range n {
				if from[b] != -2 || b == a {
					continue
				}
				if _, ok := r.cheapest(a, b); !ok {
					continue
				}
				from[b] = a
				if r.load[b] < r.target[b] {
					end = b
					break
				}
				queue = append(queue, b)
			}
		}
		if end < 0 {
			return
		}
		var path []arc
		for b := end; b != n && from[b] >= 0; b = from[b] {
			a := from[b]
			price, _ := r.cheapest(a, b)
			owner := a
			if a == n {
				owner = none
			}
			path = append(path, arc{from: owner, to: b, p: r.find(owner, b, price)})
		}
		r.apply(path)
	}
}
