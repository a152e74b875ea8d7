// Package leveltest says, by counting alone, what each level promises in which
// situation: the one table that is held against coordinators on a network in
// memory, against real nodes over gRPC, and against the documentation. It is pure.
//
// It is about three regions of three nodes each, which all own every key; the
// first region serves. Levels by consensus are not in it.
package leveltest

import "github.com/atolldb/atoll/node/quorum"

// Owners of a key in each region, and regions.
const Owners, Regions = 3, 3

// Levels of the table, in its order.
var Levels = []quorum.Level{
	quorum.LocalOne, quorum.LocalTwo, quorum.LocalThree, quorum.LocalQuorum, quorum.LocalAll,
	quorum.Quorum, quorum.EachQuorum, quorum.All,
}

// Situation is what is wrong, as the documentation names it.
type Situation string

// The situations, in the table's order. Of CutUnnoticed and Cut the first holds
// until a silent cut is noticed; a link that breaks audibly is noticed at once.
const (
	AllUp        Situation = "all up"
	OneDown      Situation = "1 node down here"
	TwoDown      Situation = "2 nodes down here"
	TwoDownThere Situation = "2 nodes down in another region"
	RegionDown   Situation = "another region down"
	CutUnnoticed Situation = "cut off, not noticed yet"
	Cut          Situation = "cut off"
)

// Situations in the table's order.
var Situations = []Situation{AllUp, OneDown, TwoDown, TwoDownThere, RegionDown, CutUnnoticed, Cut}

// Verdict is what becomes of an operation.
type Verdict string

// The verdicts: it is met; it is refused at once, and not applied; it is waited for
// until the deadline, and a write is applied here, and known not to be elsewhere.
const (
	OK      Verdict = "ok"
	Refused Verdict = "refused"
	Waits   Verdict = "waits"
)

// Cell is how the documentation says it.
func (v Verdict) Cell(write bool) string {
	switch {
	case v == Waits && write:
		return "PARTIAL"
	case v == Waits:
		return "DEADLINE"
	case v == Refused:
		return "UNAVAILABLE"
	}
	return string(v)
}

// reach is how many owners of each region can take part in what region at serves.
func reach(s Situation, at int) (up [Regions]int) {
	for i := range up {
		up[i] = Owners
		if (s == Cut || s == CutUnnoticed) && i != at && (i == 0 || at == 0) {
			up[i] = 0
		}
	}
	switch s {
	case OneDown:
		up[0] = 2
	case TwoDown:
		up[0] = 1
	case TwoDownThere:
		up[1] = 1
	case RegionDown:
		up[1] = 0
	case AllUp, CutUnnoticed, Cut:
	}
	return up
}

// bounds of a level: how many owners in each of how many regions.
func bounds(l quorum.Level) (inEach, inRegions int) {
	inEach, inRegions, err := quorum.Ask{Level: l}.Bounds(Owners, Regions)
	if err != nil {
		panic(err) // each of Levels has bounds
	}
	return inEach, inRegions
}

// Met reports whether enough owners can take part in what region at serves.
func Met(l quorum.Level, s Situation, at int) bool {
	inEach, inRegions := bounds(l)
	up, met := reach(s, at), 0
	for _, n := range up {
		if n >= inEach {
			met++
		}
	}
	return up[at] >= inEach && met >= inRegions
}

// Promised is what a level's definition says of an operation that the first region
// serves.
func Promised(l quorum.Level, s Situation) Verdict {
	inEach, inRegions := bounds(l)
	known := Regions // of which some node is thought to be up
	switch s {
	case RegionDown:
		known = 2
	case Cut:
		known = 1
	case AllUp, OneDown, TwoDown, TwoDownThere, CutUnnoticed:
	}
	switch {
	case reach(s, 0)[0] < inEach || known < inRegions:
		return Refused
	case !Met(l, s, 0):
		return Waits
	}
	return OK
}

// Sure reports whether each read sees each write, by counting: their owners
// overlap in each region that both take part in, and there is such a region.
func Sure(write, read quorum.Level, sameRegion bool) bool {
	we, wr := bounds(write)
	re, rr := bounds(read)
	return we+re > Owners && (sameRegion || wr+rr > Regions)
}
