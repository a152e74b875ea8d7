// Package collect drives rounds of tombstone collection: it finds the moment
// from which on no owner of a partition, in any region, can need its dead
// records any more.
//
// A round is one partition's. It moves the partition's *floor*, a stamp, up to
// a proposed one F, in passes in each of which every owner of every region is
// asked and must agree:
//
//	promise   mint only stamps above F from now on; say what you have received
//	settle    you have received all that anybody had at the promise, nothing
//	          stamped at or below F waits here to be sent, and what a dead
//	          incarnation left has no gaps: those that nobody had are void now
//	list      drop what was agreed on before; here is the digest of what is
//	          dead at or below F now: all lists must be equal
//	raise     look a second time: you still hold or cover what you listed; then
//	          your floor is F, and the late-message rule keeps older things out
//	confirm   you are still who you were
//	complete  everybody has raised: drop it, it is absent from now on
//
// Round (round.go) is the pure step machine of the one who asks, Duty (duty.go)
// that of the one who answers. What is durable is the business of the Ledger
// that Duty works on: the replica.
//
// Invariants:
//
//	K1  Nothing is dropped that not every owner had listed as dead and had
//	    raised its floor over, within one round.
//	K2  A round is bound to incarnations: if any owner takes another actor, or
//	    starts anew, before all have confirmed, nothing of it is completed.
//	K3  A round that ends early leaves raised floors, which are harmless, and
//	    never a completed one.
//	K4  Answers may be lost, late or repeated: each pass is idempotent, and an
//	    answer to another pass or round changes nothing.
//
// The rules come from a random model of all this (crdt/model) that was searched
// for counter-examples; docs/adr/0012 tells what it changed.
package collect
