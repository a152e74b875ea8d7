package hashring

// none fills a slot that has no owner yet.
const none int32 = -1

// layout is a table under construction, with nodes as numbers of the roster.
// A slot keeps its place while its owner changes, so that moves can be read
// off by comparing slots.
type layout struct {
	*roster
	partitions, width, limit int

	slot   []int32   // partitions * width
	orig   [][]int32 // the members among each partition's owners today
	load   []int     // slots held by each node
	target []int     // slots it should hold
	meet   []int32   // n*n: partitions that two nodes have in common
	inv    []int64   // fixed-point 1/target, to compare nodes of unlike size
}

func makeLayout(r *roster, rules Rules, limit int) *layout {
	n, width := r.size(), r.copies(rules.Replicas)
	l := &layout{
		roster: r, partitions: rules.Partitions, width: width, limit: limit,
		slot: make([]int32, rules.Partitions*width),
		orig: make([][]int32, rules.Partitions),
		load: make([]int, n),
		meet: make([]int32, n*n),
	}
	for i := range l.slot {
		l.slot[i] = none
	}
	return l
}

// remember notes the surviving owners of the current table and returns how
// many partitions each node holds in it.
func (l *layout) remember(current Table) (held []int) {
	held = make([]int, l.size())
	for p, owners := range current.All() {
		for _, id := range owners {
			if n, ok := l.index[id]; ok {
				l.orig[p] = append(l.orig[p], n)
				held[n]++
			}
		}
	}
	return held
}

// aim sets the targets.
func (l *layout) aim(target []int) {
	l.target, l.inv = target, make([]int64, len(target))
	for n, t := range target {
		l.inv[n] = 1 << 22 / int64(max(t, 1))
	}
}

func (l *layout) row(p int) []int32 { return l.slot[p*l.width : (p+1)*l.width] }

// had reports whether n owns p today: putting it there again moves nothing.
func (l *layout) had(p int, n int32) bool {
	for _, o := range l.orig[p] {
		if o == n {
			return true
		}
	}
	return false
}

// put gives a slot of p to n, which may be none.
func (l *layout) put(p, s int, n int32) {
	row, size := l.row(p), int32(l.size())
	was := row[s]
	if was == n {
		return
	}
	row[s] = none
	for _, o := range row {
		if o == none {
			continue
		}
		if was != none {
			l.meet[was*size+o]--
			l.meet[o*size+was]--
		}
		if n != none {
			l.meet[n*size+o]++
			l.meet[o*size+n]++
		}
	}
	row[s] = n
	if was != none {
		l.load[was]--
	}
	if n != none {
		l.load[n]++
	}
}

// fits reports whether b may take the slot of a (or an empty one) in p, and
// how many other owners of p share b's rack.
func (l *layout) fits(p int, a, b int32) (crowd int, ok bool) {
	for _, o := range l.row(p) {
		if o == b {
			return 0, false
		}
		if o != a && o != none && l.rack[o] == l.rack[b] {
			crowd++
		}
	}
	return crowd, crowd < l.limit
}

// closeness is what n's place in p adds, or would add, to the sum over all
// pairs of nodes of the square of what they have in common, relative to what
// nodes of their sizes would have by chance; without is left out of the row.
func (l *layout) closeness(p int, n, without int32) int64 {
	size, sum, step := int32(l.size()), int64(0), int64(1)
	for _, o := range l.row(p) {
		if o == n {
			step = -1
		}
	}
	for _, o := range l.row(p) {
		if o != none && o != without && o != n {
			sum += (2*int64(l.meet[n*size+o]) + step) * l.inv[o]
		}
	}
	return sum * l.inv[n]
}

// cost ranks giving a's slot of p to b: fewer owners in one rack first, then
// fewer pairs of nodes that have much in common. Lower is better.
func (l *layout) cost(p int, a, b int32) (int64, bool) {
	crowd, ok := l.fits(p, a, b)
	if !ok {
		return 0, false
	}
	for _, o := range l.row(p) {
		if o != a && o != none && l.rack[o] == l.rack[a] {
			crowd--
		}
	}
	return int64(crowd)<<52 + l.closeness(p, b, a) - l.closeness(p, a, none), true
}

// slotOf returns the slot of n in p; of none, the first that is empty.
func (l *layout) slotOf(p int, n int32) int {
	for s, o := range l.row(p) {
		if o == n {
			return s
		}
	}
	return -1
}

// kept counts the slots whose owner is an owner of that partition today.
func (l *layout) kept() int {
	n := 0
	for p := range l.partitions {
		for _, o := range l.row(p) {
			if o != none && l.had(p, o) {
				n++
			}
		}
	}
	return n
}
