package crdt

import (
	"cmp"
	"fmt"
)

// RegionBits is how many low bits of an Actor name its region.
const RegionBits = 6

// Actor is a node incarnation: a sequence number that a region allocates and
// never hands out again, above the region's number. It takes 2 to 4 bytes as a
// varint. Zero is no actor.
type Actor uint32

// MakeActor puts an actor together. region is 1..63, seq below 2^26.
func MakeActor(seq uint32, region uint8) Actor {
	return Actor(seq<<RegionBits | uint32(region)&(1<<RegionBits-1))
}

// Region is the number of the region that allocated a.
func (a Actor) Region() uint8 { return uint8(a & (1<<RegionBits - 1)) }

// Seq is the allocation number of a within its region.
func (a Actor) Seq() uint32 { return uint32(a >> RegionBits) }

func (a Actor) String() string { return fmt.Sprintf("%d@%d", a.Seq(), a.Region()) }

// MaxN is the highest counter that decoders accept: far beyond what anybody
// mints, and low enough for sums of counters not to overflow.
const MaxN = 1<<62 - 1

// Dot names one write event: the n-th of an actor in a partition, from 1. A
// dot never names two payloads.
type Dot struct {
	Actor Actor
	N     uint64
}

// IsZero reports whether d names nothing.
func (d Dot) IsZero() bool { return d == Dot{} }

// Compare orders dots by actor, then counter.
func (d Dot) Compare(e Dot) int {
	if c := cmp.Compare(d.Actor, e.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.N, e.N)
}

func (d Dot) String() string { return fmt.Sprintf("%s.%d", d.Actor, d.N) }

// ParseDot is the inverse of String.
func ParseDot(s string) (Dot, error) {
	var seq uint32
	var region uint8
	var n uint64
	if _, err := fmt.Sscanf(s, "%d@%d.%d", &seq, &region, &n); err == nil && region < 1<<RegionBits {
		if d := (Dot{MakeActor(seq, region), n}); d.String() == s {
			return d, nil
		}
	}
	return Dot{}, fmt.Errorf("%q does not name a write: want SEQUENCE@REGION.N", s)
}
