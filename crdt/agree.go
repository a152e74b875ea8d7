package crdt

import (
	"bytes"
	"cmp"
	"slices"
)

// Versions that say the same are one for who reads them, and stay as many as they are
// in the record. They cannot be one there. Join of three versions would depend on the
// order, if it dropped one of two equals whose pasts differ. And a minter that had its
// write follow an equal version, which its writer has not seen, would let that writer's
// next write replace what somebody else was acknowledged: two who count from 1 to 2 at
// the same time, of whom one counts on to 3, have a conflict between 2 and 3, and it
// has to show.

// Agreement is versions of a record that say the same.
type Agreement struct {
	// Version that stands for all of them: the one that lives longest, and of those
	// the latest.
	*Version
	// Equals are the dots of the others, ascending; nil for none.
	Equals []Dot
}

// Agreements sorts versions by what they say: value, metadata, and whether they are
// dead. They come in the order of the first of each. The versions are not copied.
func Agreements(versions []Version) []Agreement {
	out := make([]Agreement, 0, len(versions))
	if len(versions) < 2 {
		for i := range versions {
			out = append(out, Agreement{Version: &versions[i]})
		}
		return out
	}
	order := make([]int, len(versions))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return compareSaid(&versions[i], &versions[j]) })
	first := make([]int, len(versions)) // of those that say the same
	for at, i := range order {
		first[i] = i
		if at > 0 && compareSaid(&versions[order[at-1]], &versions[i]) == 0 {
			first[i] = first[order[at-1]]
		}
	}
	place := make([]int, len(versions)) // in out, of a first
	for i := range versions {
		v := &versions[i]
		if first[i] == i {
			place[i] = len(out)
			out = append(out, Agreement{Version: v})
			continue
		}
		a := &out[place[first[i]]]
		if v.outlives(a.Version) {
			a.Version, v = v, a.Version
		}
		a.Equals = append(a.Equals, v.Dot)
	}
	for i := range out {
		slices.SortFunc(out[i].Equals, Dot.Compare)
	}
	return out
}

// compareSaid orders by what versions say; cheap differences first.
func compareSaid(a, b *Version) int {
	if a.Dead != b.Dead {
		if a.Dead {
			return 1
		}
		return -1
	}
	if c := cmp.Or(cmp.Compare(len(a.Value), len(b.Value)), cmp.Compare(len(a.Meta), len(b.Meta))); c != 0 {
		return c
	}
	return cmp.Or(bytes.Compare(a.Value, b.Value), bytes.Compare(a.Meta, b.Meta))
}

// outlives reports whether v rather than o stands for both.
func (v *Version) outlives(o *Version) bool {
	switch {
	case v.Expiry == o.Expiry:
	case v.Expiry == 0 || o.Expiry == 0:
		return v.Expiry == 0
	default:
		return v.Expiry > o.Expiry
	}
	if v.Stamp != o.Stamp {
		return v.Stamp > o.Stamp
	}
	return v.Dot.Compare(o.Dot) > 0
}
