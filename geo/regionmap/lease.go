package regionmap

import (
	"fmt"
	"math/bits"
	"slices"
)

// Lease is what keeps two regions from both deciding at SERIAL when one of them is cut
// off and cannot be told that another one has its homes by now. With it a node decides,
// and takes part in deciding, only while a majority of the regions that are counted,
// its own included, has granted that to its region within Ms. Who knows that a region is
// not counted grants it nothing; so a region is shut when so many know it, and as much
// time has gone by since, as Wait says.
type Lease struct {
	// Ms is how long a grant holds, in milliseconds, from when it was asked for; 0: there
	// are no leases.
	Ms uint64
	// Among are the regions, one bit for each number, of which all nodes have kept a map
	// with this Ms, and with no more regions counted than these: it binds them. 0 until
	// that is known, and again whenever a region comes to be counted.
	Among uint64
}

// Bounds of a lease, in milliseconds. Grants are renewed four times as often as they run out, and an
// election in another region's store takes some seconds.
const (
	MinLease = 5_000
	MaxLease = 300_000
)

// clockBound: the clocks of two nodes run apart by less than one part in so many.
const clockBound = 32

// Wait is how many milliseconds after the last grant could be given by anybody none
// holds any more, by whosoever's clock.
func (l Lease) Wait() uint64 { return l.Ms + l.Ms/clockBound + 1 }

// SetLease has nodes decide at SERIAL only with a lease that holds for so many
// milliseconds, or, with 0, without one.
func (m *Map) SetLease(ms uint64) error {
	if ms != 0 && (ms < MinLease || ms > MaxLease) {
		return fmt.Errorf("%w: a lease of %d ms is not within %d and %d", ErrInvalid, ms, MinLease, MaxLease)
	}
	if ms != m.Lease.Ms {
		m.Lease = Lease{Ms: ms}
	}
	return nil
}

// counted are the regions that are, as bits.
func (m *Map) counted() (set uint64) {
	for _, r := range m.Regions {
		if r.State.Counts() {
			set |= 1 << r.ID
		}
	}
	return set
}

// Bind notes that all nodes of all regions that are counted have kept this map.
func (m *Map) Bind() { m.Lease.Among = m.counted() }

// Bound reports whether the lease is known to bind all regions that are counted, and
// nobody else.
func (m *Map) Bound() bool { return m.Lease.Ms == 0 || m.Lease.Among == m.counted() }

// Binds reports whether all nodes of a region are known to go by the lease.
func (m *Map) Binds(region string) bool {
	r := m.Get(region)
	return m.Lease.Ms != 0 && r != nil && m.Lease.Among&(1<<r.ID) != 0
}

// Holds reports whether a region has the grants that it needs to decide, its own
// included, which is not asked for.
func (m *Map) Holds(region string, granted func(name string) bool) bool {
	if m.Lease.Ms == 0 {
		return true
	}
	if !m.Counts(region) {
		return false
	}
	all, yes := 0, 0
	for _, r := range m.Regions {
		if !r.State.Counts() {
			continue
		}
		all++
		if r.Name == region || granted(r.Name) {
			yes++
		}
	}
	return yes > all/2
}

// Left is for how many milliseconds a region may go on deciding by grants that hold for
// so many yet, its own not asked for; 0: it may not. A region that needs no grant of
// others has its own, which is always new.
func (m *Map) Left(region string, left func(name string) uint64) uint64 {
	if !m.Counts(region) {
		return 0
	}
	var others []uint64
	for _, r := range m.Regions {
		if r.State.Counts() && r.Name != region {
			others = append(others, left(r.Name))
		}
	}
	need := (len(others) + 1) / 2 // beside its own, for a majority
	if need == 0 {
		return m.Lease.Ms
	}
	slices.Sort(others)
	return others[len(others)-need]
}

// Shut reports whether a region that the lease binds gets no majority any more, since
// the others of these numbers refuse: by no map that its nodes may have kept, which
// count those that are counted now and perhaps more of Among.
func (m *Map) Shut(region string, refuse []uint8) bool {
	r := m.Get(region)
	if r == nil || !m.Binds(region) {
		return false
	}
	var no uint64
	for _, id := range refuse {
		no |= 1 << id
	}
	self := uint64(1) << r.ID
	rest := m.Lease.Among &^ no
	// Of those that it may count the ones who grant all do, and of the others only
	// those that it has to count: that is its best.
	return bits.OnesCount64(rest|self) <= bits.OnesCount64(rest|self|m.counted())/2
}
