package quorum

// Regions returns in how many of g regions an operation of level l is to be met,
// the serving one among them.
func (l Level) Regions(g int) int {
	switch l {
	case Quorum:
		return g/2 + 1
	case EachQuorum, All:
		return g
	}
	return 1
}

// Regions counts the regions in which one operation is met, each by a tally of
// its own owners. Region 0 is the serving one: it must be among them.
//
// So levels that leave the region are quorums of regional quorums. Two operations
// that are met in more than g regions together have a region in common, and if
// their owners there overlap (Q2), an owner: that is Q2 one floor higher.
type Regions struct{ tally Tally }

// NewRegions counts for an operation that is to be met in need of regions, at
// most 64.
func NewRegions(need, regions int) Regions { return Regions{NewTally(need, regions)} }

// Met counts region i in which the operation is met.
func (r *Regions) Met(i int) Verdict {
	r.tally.Ack(i)
	return r.Verdict()
}

// Fail counts region i in which it cannot be met any more.
func (r *Regions) Fail(i int) Verdict {
	r.tally.Fail(i)
	return r.Verdict()
}

// Verdict so far. Once Met it stays Met.
func (r *Regions) Verdict() Verdict {
	v := r.tally.Verdict()
	switch {
	case r.tally.Acked(0):
		return v
	case r.tally.Answered(0):
		return Lost
	case v == Met:
		return Pending
	}
	return v
}

// Reached says that the operation is met in region i, Answered that it is met
// there or failed.
func (r *Regions) Reached(i int) bool  { return r.tally.Acked(i) }
func (r *Regions) Answered(i int) bool { return r.tally.Answered(i) }

// Yes is in how many regions the operation is met, Need in how many it has to be.
func (r *Regions) Yes() int  { return r.tally.Yes() }
func (r *Regions) Need() int { return r.tally.Need() }

// Share is how many of a region's owners took part in an operation.
type Share struct{ Yes, Owners int }

// Reached returns the strongest local level that the share fulfils, Default for
// none.
func (s Share) Reached() Level {
	switch {
	case s.Yes <= 0:
		return Default
	case s.Yes >= s.Owners:
		return LocalAll
	case s.Yes > s.Owners/2:
		return LocalQuorum
	case s.Yes >= 3:
		return LocalThree
	case s.Yes == 2:
		return LocalTwo
	}
	return LocalOne
}

// Reached returns the strongest level that an operation fulfils which so many
// owners of each region took part in; the serving one comes first.
func Reached(regions []Share) Level {
	quorums, all := 0, true
	for _, s := range regions {
		l := s.Reached()
		if l >= LocalQuorum {
			quorums++
		}
		all = all && l == LocalAll
	}
	switch {
	case len(regions) == 0:
		return Default
	case len(regions) == 1 || regions[0].Reached() < LocalQuorum:
		return regions[0].Reached()
	case all:
		return All
	case quorums == len(regions):
		return EachQuorum
	case quorums >= Quorum.Regions(len(regions)):
		return Quorum
	}
	return regions[0].Reached()
}
