// Package hint stands in for owners that are away: it keeps records of
// partitions that this node does not own, each for one owner, and hands them
// over when that owner is back. It is the other half of a sloppy write; whether
// a write is sloppy, and who stands in, is decided by the coordinator.
//
// It mints nothing, answers no reads, and is no replacement for anti-entropy: a
// hint that did not count for an acknowledgement need not exist.
//
// Invariants:
//
//	H1  The reply to a hint is a vote: the record is durable here.
//	H2  A hint is deleted only after its owner applied it durably, or, when
//	    that owner no longer takes writes of the partition, all who do; never
//	    by age, and never for want of room.
//	H3  What does not fit is refused. So is what is for an owner that has been
//	    away for longer than MaxAge: it has to be replaced.
//	H4  A hint is fenced like any write: sent by a topology that is too old for
//	    the partition, it does not count.
//	H5  Who knows that it leaves the region takes none, and has not left before all
//	    that it has is handed over, or it is dead.
//
// Run owns the goroutine that hands over; see DESIGN.md.
package hint
