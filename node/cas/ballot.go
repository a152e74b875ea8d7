package cas

import "github.com/atolldb/atoll/crdt"

// Ballot orders proposals: 48 bits of milliseconds since 1970, and below them
// 16 bits that name the proposer. 0 is none.
type Ballot uint64

const proposerBits = 16

// MaxAhead is how far ahead of its clock, in milliseconds, an acceptor takes a
// ballot: what is promised once cannot be taken back.
const MaxAhead = 400

// MaxBallot is the highest that is accepted from anybody; see crdt.MaxN.
const MaxBallot Ballot = crdt.MaxN

// At is the lowest ballot of a millisecond.
func At(ms int64) Ballot { return Ballot(ms) << proposerBits }

// Millis since 1970.
func (b Ballot) Millis() int64 { return int64(b >> proposerBits) }

// TooFar reports whether acceptors refuse it, where it is nowMs.
func (b Ballot) TooFar(nowMs int64) bool { return b.Millis() > nowMs+MaxAhead }

// Next is a ballot of the proposer's above b, of now if that is above it.
func (b Ballot) Next(nowMs int64, proposer uint16) Ballot {
	n := At(max(nowMs, b.Millis())) | Ballot(proposer)
	if n <= b {
		n += 1 << proposerBits
	}
	return n
}

// after is the lowest ballot above b, whoever's.
func (b Ballot) after() Ballot { return b + 1 }
