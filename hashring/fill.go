package hashring

import "cmp"

// The first three steps of a plan, all greedy: keep what may stay, fill the
// holes, move what is too much. They reach the targets and the fewest moves
// nearly always; flow.go makes sure of both.

// keep copies today's owners into the layout, as far as the rules still allow:
// of owners beyond a rack's limit or the number of copies, those go that hold
// the most above their target.
func (l *layout) keep(held []int) {
	over := make([]int, len(held))
	for n := range held {
		over[n] = held[n] - l.target[n]
	}
	crowd := make([]int, len(l.racks))
	for p, owners := range l.orig {
		for _, n := range owners {
			crowd[l.rack[n]]++
		}
		stay := append([]int32(nil), owners...)
		for {
			worst, total := -1, 0
			for s, n := range stay {
				if n == none {
					continue
				}
				total++
				if crowd[l.rack[n]] > l.limit && (worst < 0 || over[n] > over[stay[worst]]) {
					worst = s
				}
			}
			if worst < 0 && total > l.width {
				for s, n := range stay {
					if n != none && (worst < 0 || over[n] > over[stay[worst]]) {
						worst = s
					}
				}
			}
			if worst < 0 {
				break
			}
			crowd[l.rack[stay[worst]]]--
			over[stay[worst]]--
			stay[worst] = none
		}
		for s, n := range stay {
			if n != none && s < l.width {
				l.put(p, s, n)
			}
		}
		for s, n := range stay {
			if n != none && s >= l.width {
				l.put(p, l.slotOf(p, none), n)
			}
		}
		clear(crowd)
	}
}

// fillHoles gives every empty slot it can to a node below its target: one in
// the rack that lacks most (or the last partitions would find only racks they
// already have), there the one that meets the other owners least.
func (l *layout) fillHoles() {
	lack := make([]int, len(l.racks))
	for n, t := range l.target {
		lack[l.rack[n]] += max(0, t-l.load[n])
	}
	for p := range l.partitions {
		for s, o := range l.row(p) {
			if o != none {
				continue
			}
			best, bestCrowd, bestClose := none, 0, int64(0)
			for n := range int32(l.size()) {
				if l.load[n] >= l.target[n] {
					continue
				}
				crowd, ok := l.fits(p, none, n)
				if !ok {
					continue
				}
				near, order := int64(0), -1
				if best != none {
					order = cmp.Or(cmp.Compare(crowd, bestCrowd), cmp.Compare(lack[l.rack[best]], lack[l.rack[n]]))
				}
				if order > 0 {
					continue
				}
				near = l.closeness(p, n, none)
				if order == 0 {
					order = cmp.Or(cmp.Compare(near, bestClose), cmp.Compare(l.unfilled(best), l.unfilled(n)))
				}
				if order < 0 {
					best, bestCrowd, bestClose = n, crowd, near
				}
			}
			if best != none {
				l.put(p, s, best)
				lack[l.rack[best]]--
			}
		}
	}
}

// unfilled is the part of its target that n still lacks.
func (l *layout) unfilled(n int32) int64 { return int64(l.target[n]-l.load[n]) * l.inv[n] }

// offer is a slot that a node below its target could take over.
type offer struct {
	cost int64
	p, s int32
}

// maxStale bounds how many offers are priced anew before one is taken. With few
// nodes every step makes every offer dearer alike, and pricing them all would
// take time in the square of the partitions to tell equals apart.
const maxStale = 32

// shift moves slots from nodes above their target straight to nodes below,
// the cheapest first.
func (l *layout) shift() {
	var offers offerHeap
	for b := range int32(l.size()) {
		if l.load[b] >= l.target[b] {
			continue
		}
		offers = offers[:0]
		for i, a := range l.slot {
			if a == none || l.load[a] <= l.target[a] {
				continue
			}
			p := i / l.width
			if c, ok := l.cost(p, a, b); ok {
				offers = append(offers, offer{cost: c, p: int32(p), s: int32(i % l.width)})
			}
		}
		offers.init()
		for stale := 0; l.load[b] < l.target[b] && len(offers) > 0; {
			top := offers[0]
			p, s := int(top.p), int(top.s)
			a := l.row(p)[s]
			c, ok := l.cost(p, a, b)
			switch {
			case !ok || l.load[a] <= l.target[a]:
				offers.pop()
			case c > top.cost && stale < maxStale: // what moved since made it dearer
				offers[0].cost = c
				offers.sink(0)
				stale++
			default:
				l.put(p, s, b)
				offers.pop()
				stale = 0
			}
		}
	}
}

// offerHeap is a binary heap, the cheapest offer first; of equal offers, the
// lowest partition.
type offerHeap []offer

func (h offerHeap) less(i, j int) bool {
	if h[i].cost != h[j].cost {
		return h[i].cost < h[j].cost
	}
	if h[i].p != h[j].p {
		return h[i].p < h[j].p
	}
	return h[i].s < h[j].s
}

func (h offerHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

func (h offerHeap) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func (h *offerHeap) pop() {
	old := *h
	old[0] = old[len(old)-1]
	*h = old[:len(old)-1]
	h.sink(0)
}
