package hashring

// Primaries. Giving every owner of a partition 1/copies of the role hands node
// n exactly owned(n)/copies partitions, so some choice of one owner each gives
// every node that number rounded down or up (the same flow argument as in
// share.go). Today's primary stays while that allows it.

// choosePrimaries returns the slot of each partition's primary; first is its
// primary today, or none.
func (l *layout) choosePrimaries(first []int32) []int32 {
	if l.width == 0 {
		return nil
	}
	n := l.size()
	chosen, count := make([]int32, l.partitions), make([]int, n)
	low, high := make([]int, n), make([]int, n)
	for i, have := range l.load {
		low[i], high[i] = have/l.width, (have+l.width-1)/l.width
	}
	var vacant []int
	for p := range chosen {
		if chosen[p] = first[p]; chosen[p] == none || l.slotOf(p, chosen[p]) < 0 {
			chosen[p] = none
			vacant = append(vacant, p)
		} else {
			count[chosen[p]]++
		}
	}
	for _, p := range vacant {
		best := none
		for _, o := range l.row(p) {
			// The fullest owner is the one with the most of its due.
			if best == none || int64(count[o])*l.inv[o] < int64(count[best])*l.inv[best] {
				best = o
			}
		}
		chosen[p] = best
		count[best]++
	}
	l.evenOut(chosen, count, func(i int) bool { return count[i] > high[i] }, func(i int) bool { return count[i] < high[i] })
	l.evenOut(chosen, count, func(i int) bool { return count[i] > low[i] }, func(i int) bool { return count[i] < low[i] })
	return chosen
}

// evenOut passes the role along shortest paths from nodes that may give it to
// nodes that should take it, until there is no such path. Only one of the two
// ends must be out of bounds: a giver above its bound may serve any taker
// below, which is why it is run once for each bound.
func (l *layout) evenOut(chosen []int32, count []int, gives, takes func(int) bool) {
	n := l.size()
	leads := make([][]int32, n) // partitions by primary
	for p, o := range chosen {
		leads[o] = append(leads[o], int32(p))
	}
	from, by := make([]int32, n), make([]int32, n)
	for {
		var queue []int32
		for i := range from {
			from[i] = -2
			if gives(i) {
				from[i] = -1
				queue = append(queue, int32(i))
			}
		}
		end := none
		for len(queue) > 0 && end == none {
			a := queue[0]
			queue = queue[1:]
		search:
			for _, p := range leads[a] {
				for _, b := range l.row(int(p)) {
					if from[b] != -2 {
						continue
					}
					from[b], by[b] = a, p
					if takes(int(b)) {
						end = b
						break search
					}
					queue = append(queue, b)
				}
			}
		}
		if end == none {
			return
		}
		for b := end; from[b] >= 0; b = from[b] {
			a, p := from[b], by[b]
			chosen[p] = b
			leads[a] = remove(leads[a], p)
			leads[b] = append(leads[b], p)
			count[a]--
			count[b]++
		}
	}
}

// remove takes one occurrence of p out of list, whose order it keeps.
func remove(list []int32, p int32) []int32 {
	for i, q := range list {
		if q == p {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}
