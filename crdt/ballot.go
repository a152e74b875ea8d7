package crdt

// Conditional writes are decided by ballots, one key at a time, and their
// versions are named by the ballot that proposed them: the dot (b, n) of the
// ballot actor b of a home region and its epoch, with the ballot itself as n.
// Such dots name versions and stand in pasts, as others do. They are in no
// sequence: a partition has as many first ones as it has keys, and most numbers
// name nothing. So they never enter a delivery clock, a dot index or a session
// token; the write event that such a version is gets an ordinary dot of whoever
// commits it, which is what clocks and indexes carry.
//
// Were the proposal named by a dot of the proposing node's own actor, then the
// node's next plain write would cover it, in every copy, before it is decided.

// BallotEpochs is how many home epochs a region has, and so how many ballot
// actors: the upper half of the sequence numbers is theirs, and no node is ever
// given one of them.
const BallotEpochs = 1 << (31 - RegionBits)

// BallotActor names the conditional writes that are decided in a home region in
// its epoch. region is 1..63, epoch below BallotEpochs.
func BallotActor(region uint8, epoch uint32) Actor {
	return MakeActor(BallotEpochs|epoch&(BallotEpochs-1), region)
}

// IsBallot reports whether a is a ballot actor, not a node.
func (a Actor) IsBallot() bool { return a.Seq() >= BallotEpochs }

// MaxBallot is the highest ballot that was decided in a region, whatever its
// epoch as a home, of those that r holds or covers; 0 for none. The ballots of a
// key are in one order in a region, since the same owners promise them.
func (r Record) MaxBallot(region uint8) uint64 {
	var n uint64
	ours := func(a Actor) bool { return a.IsBallot() && a.Region() == region }
	for i := range r.Versions {
		v := &r.Versions[i]
		if ours(v.Dot.Actor) {
			n = max(n, v.Dot.N)
		}
		for _, e := range v.Past {
			if ours(e.Actor) {
				n = max(n, e.N)
			}
		}
	}
	return n
}

// HasBallots reports whether r shows a version that was decided by consensus.
func (r Record) HasBallots() bool {
	for i := range r.Versions {
		if r.Versions[i].Dot.Actor.IsBallot() {
			return true
		}
	}
	return false
}
