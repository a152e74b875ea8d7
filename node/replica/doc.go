// Package replica is an owner's state: the records, delivery clocks, dot
// indexes and digests of the partitions that this node stores, and the only
// place where records are merged into the engine.
//
// It does not know who the other owners are or how many must agree (coord),
// nor when to compare itself with them (repair). It answers peers' questions
// and runs two kinds of writes: Mint, which decides a new version here, and
// Apply, which joins what was decided elsewhere.
//
// Invariants:
//
//	R1  A record, the index entries of the dots that arrived with it, and what
//	    is needed to recover clock and digest are written in one transaction.
//	R2  The clock that others see holds durable dots only.
//	R3  An actor that this node used is used again only after a clean stop
//	    whose marker matches the recovered state and whose nonce the registry
//	    accepts. Without an actor nothing is minted; all else works.
//	R4  Apply mints nothing and ships nothing. Mint ships through the outbox.
//	R5  Proof of amnesia (somebody shows a dot of ours that we do not know)
//	    ends the actor.
//	R6  Once an adoption at epoch e is done, nothing is acknowledged any more
//	    that was sent in ignorance of a change of its partition at or before e.
//	    A node never goes back to a lower epoch.
//	R7  A node serves a partition only when it once had all that the others who
//	    serve it had, since it began to hold it or last lost something.
//	R8  What is unreadable is never absent, and what was applied over it is not
//	    served before it was healed.
//	R9  A dot never names two writes, also when the partition was dropped and
//	    came back in between.
//
//	R10 A read or a mint that names what must have been delivered is decided on a
//	    state that has it, or not at all.
//
// Run owns the committer's goroutine, the one that obtains actors, those that
// ask about late messages (late.go), the one that wakes who waits for a delivery
// (wait.go), and the one of the chores (chores.go).
package replica
