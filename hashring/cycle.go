package hashring

// saveMoves undoes cycles of negative price until none is left; shares say
// which nodes may swap the rounding of their targets.
func (r *residual) saveMoves(shares []share) {
	for {
		cycle := r.negativeCycle(shares)
		if cycle == nil {
			return
		}
		r.apply(r.untangle(cycle))
	}
}

// swappable reports whether b may be rounded up instead of a. A cycle through
// the arc b -> a that this makes takes a copy from a and gives it to b.
func (r *residual) swappable(shares []share, a, b int32) bool {
	x, y := shares[a], shares[b]
	return x.basin >= 0 && x.basin == y.basin && x.remainder() == y.remainder() &&
		int64(r.target[a]) > x.floor() && int64(r.target[b]) == y.floor()
}

// negativeCycle finds one by Bellman and Ford's algorithm, looking for a loop
// among the predecessors after each round. It returns nil if there is none.
func (r *residual) negativeCycle(shares []share) []arc {
	n := r.size()
	type edge struct {
		to    int32
		price int8
		token bool
	}
	out := make([][]edge, n)
	for a := range int32(n) {
		for b := range int32(n) {
			if a == b {
				continue
			}
			price, ok := r.cheapest(a, b)
			token := (!ok || price > 0) && r.swappable(shares, b, a)
			if token {
				price, ok = 0, true
			}
			if ok {
				out[a] = append(out[a], edge{to: b, price: int8(price), token: token})
			}
		}
	}
	dist := make([]int, n)
	pred := make([]int32, n)
	via := make([]edge, n)
	for i := range pred {
		pred[i] = -1
	}
	for changed := true; changed; {
		changed = false
		for a := range int32(n) {
			for _, e := range out[a] {
				if d := dist[a] + int(e.price); d < dist[e.to] {
					dist[e.to], pred[e.to], via[e.to], changed = d, a, e, true
				}
			}
		}
		if on := loop(pred); on >= 0 {
			var cycle []arc
			for b := on; ; {
				a := pred[b]
				p := -1
				if !via[b].token {
					p = r.find(a, b, int(via[b].price))
				}
				cycle = append(cycle, arc{from: a, to: b, p: p})
				if b = a; b == on {
					break
				}
			}
			for i, j := 0, len(cycle)-1; i < j; i, j = i+1, j-1 {
				cycle[i], cycle[j] = cycle[j], cycle[i]
			}
			return cycle
		}
	}
	return nil
}

// loop returns a node on a cycle of predecessors, or -1.
func loop(pred []int32) int32 {
	seen := make([]int32, len(pred))
	for i := range int32(len(pred)) {
		v := i
		for v >= 0 && seen[v] == 0 {
			seen[v] = i + 1
			v = pred[v]
		}
		if v >= 0 && seen[v] == i+1 {
			return v
		}
	}
	return -1
}

// untangle returns a part of the cycle, itself a cycle of negative price, whose
// arcs are possible together. Two arcs a -> b and c -> d of one partition clash
// if they come from elsewhere into one rack and crowd it; then a -> d and
// c -> b are possible there as well, and cut the cycle into two that have its
// price between them.
func (r *residual) untangle(cycle []arc) []arc {
	for i, x := range cycle {
		for j := i + 1; j < len(cycle); j++ {
			y := cycle[j]
			if x.p < 0 || x.p != y.p || !r.clash(cycle, x, y) {
				continue
			}
			outer := append([]arc(nil), cycle[:i]...)
			outer = append(outer, arc{from: x.from, to: y.to, p: x.p})
			outer = append(outer, cycle[j+1:]...)
			if r.total(outer) < 0 {
				return r.untangle(outer)
			}
			inner := append([]arc{{from: y.from, to: x.to, p: x.p}}, cycle[i+1:j]...)
			return r.untangle(inner)
		}
	}
	return cycle
}

// clash reports whether x and y both enter one rack of their partition and
// the cycle as a whole crowds it.
func (r *residual) clash(cycle []arc, x, y arc) bool {
	z := r.rack[x.to]
	if r.rack[y.to] != z || r.rack[x.from] == z || r.rack[y.from] == z {
		return false
	}
	crowd := 0
	for _, o := range r.row(x.p) {
		if o != none && r.rack[o] == z {
			crowd++
		}
	}
	for _, a := range cycle {
		if a.p == x.p {
			if r.rack[a.to] == z {
				crowd++
			}
			if r.rack[a.from] == z {
				crowd--
			}
		}
	}
	return crowd > r.limit
}

// total is the price of arcs.
func (r *residual) total(arcs []arc) int {
	sum := 0
	for _, a := range arcs {
		if a.p < 0 {
			continue
		}
		if !r.had(a.p, a.to) {
			sum++
		}
		if !r.had(a.p, a.from) {
			sum--
		}
	}
	return sum
}
