package hashring

import "fmt"

// Ideal is what the best possible table looks like.
type Ideal struct {
	Copies    int                // owners of each partition: min(members, Replicas)
	RackLimit int                // owners of one partition in one rack, at most
	Fair      map[string]float64 // partitions each member would own if they could be split
	Max       int                // the largest fair share, rounded up
	Mean      float64            // partitions per member
}

// Optimum computes the balance that no table for members under rules can
// beat: every member's share by weight, as level as racks allow. In no planned
// table does a member own more than Max; if weights are equal, some member of
// any table owns that many.
func Optimum(members []Member, rules Rules) (Ideal, error) {
	l, shares, _, err := prepare(Table{}, members, rules)
	if err != nil {
		return Ideal{}, fmt.Errorf("optimum of ring: %w", err)
	}
	out := Ideal{
		Copies:    l.width,
		RackLimit: l.limit,
		Fair:      make(map[string]float64, l.size()),
		Mean:      float64(len(l.slot)) / float64(l.size()),
	}
	for n, s := range shares {
		out.Fair[l.ids[n]] = float64(s.num) / float64(s.den)
		out.Max = max(out.Max, int((s.num+s.den-1)/s.den))
	}
	return out, nil
}

// MinimumMoves is a lower bound on the copies that any balanced table must
// bring: what members lack of their share, or, if that is more, the slots
// whose owner left or breaks the rack rule. Plan reaches it unless a rack
// rule forces a detour.
func MinimumMoves(current Table, members []Member, rules Rules) (int, error) {
	_, _, least, err := prepare(current, members, rules)
	if err != nil {
		return 0, fmt.Errorf("fewest moves of ring: %w", err)
	}
	return least, nil
}
