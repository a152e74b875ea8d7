// Package verify judges whether the owners of a partition, in two regions, hold the
// same: from what each of them says of its clock and of its records. It is pure; who
// asks the owners, and how often, is another's affair (node/links.go).
//
// Invariants:
//
//	V1  A partition is equal only if every owner of both regions said so.
//	V2  Unequal clocks say that something is on its way or was lost on it; only
//	    under equal clocks do unequal digests say that a disk lies.
//	V3  Different digests have to be seen twice under the same clock.
package verify

import (
	"cmp"
	"slices"
)

// Sum is what an owner has of a partition, at one moment.
type Sum struct {
	// Clock is a hash of what was delivered, Floor up to which stamp tombstones are
	// collected, Digest a hash of the records.
	Clock, Floor, Digest uint64
	// Moving says that the records changed while they were counted: the digest
	// cannot be compared.
	Moving bool
}

// Owner is one of a partition's, with its answer.
type Owner struct {
	ID string
	// Answered is false for one that did not, or does not hold the partition.
	Answered bool
	Sum
}

// Kind of a verdict.
type Kind uint8

// The kinds.
const (
	Equal   Kind = iota
	Behind       // owners have not received the same
	Differs      // they have, and hold different records
	Silent       // one did not answer
)

// Verdict on a partition, and the owners that are not as most are, ascending.
type Verdict struct {
	Kind Kind
	Odd  []string
	// Clock under which digests were seen to differ, 0 for none.
	Clock uint64
}

// Judge what the owners of both regions said of a partition. Without any owner
// nothing is known.
func Judge(owners []Owner) Verdict {
	if odd := which(owners, func(o Owner) bool { return !o.Answered }); len(odd) > 0 || len(owners) == 0 {
		return Verdict{Kind: Silent, Odd: odd}
	}
	if odd := minority(owners, func(o Owner) [2]uint64 { return [2]uint64{o.Clock, o.Floor} }); len(odd) > 0 {
		return Verdict{Kind: Behind, Odd: odd}
	}
	if odd := which(owners, func(o Owner) bool { return o.Moving }); len(odd) > 0 {
		return Verdict{Kind: Behind, Odd: odd}
	}
	if odd := minority(owners, func(o Owner) [2]uint64 { return [2]uint64{o.Digest} }); len(odd) > 0 {
		return Verdict{Kind: Differs, Odd: odd, Clock: owners[0].Clock}
	}
	return Verdict{}
}

// Confirm returns what two looks say: the later one, but digests that differ for
// the first time under a clock are only on their way (V3).
func Confirm(before, now Verdict) Verdict {
	if now.Kind == Differs && before.Clock != now.Clock {
		return Verdict{Kind: Behind, Odd: now.Odd, Clock: now.Clock}
	}
	return now
}

func which(owners []Owner, is func(Owner) bool) (odd []string) {
	for _, o := range owners {
		if is(o) {
			odd = append(odd, o.ID)
		}
	}
	slices.Sort(odd)
	return odd
}

// minority are the owners that do not have the value that most have; of values as
// frequent, the lowest counts as that.
func minority(owners []Owner, value func(Owner) [2]uint64) []string {
	counts := map[[2]uint64]int{}
	for _, o := range owners {
		counts[value(o)]++
	}
	if len(counts) < 2 {
		return nil
	}
	var most [2]uint64
	best := 0
	for v, n := range counts {
		if n > best || n == best && (cmp.Or(cmp.Compare(v[0], most[0]), cmp.Compare(v[1], most[1])) < 0) {
			most, best = v, n
		}
	}
	return which(owners, func(o Owner) bool { return value(o) != most })
}
