package hashring

// spread trades copies that move anyway, so that pairs of nodes have less in
// common: two new copies swap their nodes, or a node gives away another of its
// partitions than the one chosen first. Neither changes how many copies a node
// holds or how many move. It is a local search, and stops when a pass finds
// nothing or the budget is spent.
func (l *layout) spread() {
	var fresh []int // slots whose owner is new to the partition
	owned := make([][]int, l.size())
	for i, n := range l.slot {
		if l.had(i/l.width, n) {
			owned[n] = append(owned[n], i)
		} else {
			fresh = append(fresh, i)
		}
	}
	if len(fresh) == 0 || l.size() <= l.width {
		return
	}
	tries := max(1, spreadBudget/spreadPasses/len(fresh)/2)
	for range spreadPasses {
		better := false
		for at, i := range fresh {
			for k := 1; k < len(fresh) && k <= tries; k++ {
				if l.swap(i, fresh[(at+k)%len(fresh)]) {
					better = true
				}
			}
			p := i / l.width
			for _, a := range l.orig[p] {
				if l.slotOf(p, a) >= 0 {
					continue
				}
				for k := 0; k < len(owned[a]) && k < tries; k++ {
					j := owned[a][(at+k)%len(owned[a])]
					if l.swap(i, j) {
						// a has p again, and gave up j instead.
						owned[a][(at+k)%len(owned[a])], fresh[at] = i, j
						better = true
						break
					}
				}
				if fresh[at] != i {
					break
				}
			}
		}
		if !better {
			return
		}
	}
}

const (
	spreadPasses = 4
	spreadBudget = 1 << 21 // swaps tried in all: about a fifth of a second
)

// swap exchanges the owners of slots i and j if that lowers the cost.
func (l *layout) swap(i, j int) bool {
	p, q, b, c := i/l.width, j/l.width, l.slot[i], l.slot[j]
	if p == q || b == c {
		return false
	}
	gain, ok := l.cost(p, b, c)
	if !ok {
		return false
	}
	back, ok := l.cost(q, c, b)
	if !ok {
		return false
	}
	// The first step changes the price of the second where the rows share
	// another owner, so that is asked again before it counts.
	if gain+back >= 0 {
		return false
	}
	l.put(p, i%l.width, c)
	if back, ok = l.cost(q, c, b); !ok || gain+back >= 0 {
		l.put(p, i%l.width, b)
		return false
	}
	l.put(q, j%l.width, b)
	return true
}
