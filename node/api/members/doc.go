// Package members changes a region's topology on behalf of operators: it plans,
// commits, pauses and aborts, over the topology's store. What a change takes and
// which steps are safe package topology decides; who drives the moves, and tells
// how far they are, is package handoff.
//
// Invariants:
//
//	M1  Nothing is stored but by a Swap of what was loaded: two operators, or an
//	    operator and the steward, never undo each other's work.
//	M2  What is committed are the moves that were shown: the plan is made again
//	    on the topology of the moment, and refused when others come out.
//	M3  An error of a change says whether it may have been stored.
//
// It has no goroutines.
package members
