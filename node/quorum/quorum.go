// Package quorum counts answers: what a consistency level needs of an
// operation's owners, and when it is met or can no longer be met. It is pure.
//
// Invariants:
//
//	Q1  Each owner counts once, whatever it answers how often.
//	Q2  With r + w > n every read that is met has an owner in common with every
//	    write that was met.
package quorum

import "fmt"

// Level is who takes part in an operation. What is called Local never leaves the
// serving region; Each means every region. The numbers are wire format.
type Level uint8

// The levels. The zero Level stands for the default, LocalQuorum.
const (
	Default     Level = 0
	LocalOne    Level = 1
	LocalTwo    Level = 2
	LocalThree  Level = 3
	LocalQuorum Level = 4
	LocalAll    Level = 5

	Quorum      Level = 6 // a quorum in a majority of the regions
	EachQuorum  Level = 7 // a quorum in every region
	All         Level = 8 // every owner in every region
	LocalSerial Level = 9 // consensus in the serving region
	Serial      Level = 10
)

var names = [...]string{"default", "local-one", "local-two", "local-three", "local-quorum", "local-all", "quorum", "each-quorum", "all", "local-serial", "serial"}

func (l Level) String() string {
	if int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// Valid reports whether l is one of the levels.
func (l Level) Valid() bool { return int(l) < len(names) }

// ParseLevel returns the level of a name as String gives it.
func ParseLevel(s string) (Level, error) {
	for i, n := range names {
		if s == n {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("unknown consistency level %q: one of %v", s, names[1:])
}

// Regional reports whether l asks other regions too.
func (l Level) Regional() bool { return l == Quorum || l == EachQuorum || l == All }

// Consensus reports whether l is decided by consensus.
func (l Level) Consensus() bool { return l == LocalSerial || l == Serial }

// Need returns how many of n owners l takes, in each region that takes part. It
// fails when there are not that many owners at all.
func (l Level) Need(n int) (int, error) {
	var k int
	switch l {
	case LocalOne:
		k = 1
	case LocalTwo:
		k = 2
	case LocalThree:
		k = 3
	case Default, LocalQuorum, Quorum, EachQuorum, LocalSerial, Serial:
		k = n/2 + 1
	case LocalAll, All:
		k = n
	default:
		return 0, fmt.Errorf("unknown consistency level %d", uint8(l))
	}
	if k > n {
		return 0, fmt.Errorf("%s needs %d owners, the partition has %d", l, k, n)
	}
	return k, nil
}

// Verdict on an operation so far.
type Verdict uint8

// The verdicts.
const (
	Pending Verdict = iota
	Met
	Lost // enough owners failed that Met is out of reach
)

// Tally counts the answers of one operation. Owners are known by their index
// in the partition's row.
type Tally struct {
	need, owners    int
	acked, answered uint64 // bit i: owner i
	yes, no         int
}

// NewTally counts for an operation that needs need of owners, at most 64.
func NewTally(need, owners int) Tally { return Tally{need: need, owners: owners} }

// Ack counts owner i's success.
func (t *Tally) Ack(i int) Verdict {
	if t.answered&(1<<i) == 0 {
		t.answered |= 1 << i
		t.acked |= 1 << i
		t.yes++
	}
	return t.Verdict()
}

// Fail counts owner i's failure.
func (t *Tally) Fail(i int) Verdict {
	if t.answered&(1<<i) == 0 {
		t.answered |= 1 << i
		t.no++
	}
	return t.Verdict()
}

// Verdict so far. Once Met it stays Met.
func (t *Tally) Verdict() Verdict {
	switch {
	case t.yes >= t.need:
		return Met
	case t.owners-t.no < t.need:
		return Lost
	}
	return Pending
}

// Acked reports whether owner i has acknowledged.
func (t *Tally) Acked(i int) bool { return t.acked&(1<<i) != 0 }

// Answered reports whether owner i has succeeded or failed.
func (t *Tally) Answered(i int) bool { return t.answered&(1<<i) != 0 }

// Yes is how many owners have acknowledged, Need how many it takes, Owners how
// many there are.
func (t *Tally) Yes() int    { return t.yes }
func (t *Tally) Need() int   { return t.need }
func (t *Tally) Owners() int { return t.owners }

// Complete reports whether every owner has answered.
func (t *Tally) Complete() bool { return t.yes+t.no == t.owners }
