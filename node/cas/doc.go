// Package cas decides conditional writes and linearizable reads of one key: a
// Paxos register whose value is the key's ordinary record. It is pure: acceptor
// transitions, their stored form, and the proposer as a step machine that is fed
// answers and says what to send.
//
// It knows no nodes, only slots of a partition's row; it does not read, store or
// send. The acceptor's state is kept apart from the record: what was accepted is
// not part of the record before it is decided, and then it is joined into it, so
// that plain writes of the same key lose nothing and are not lost. (The idea of
// a register per key is that of CASPaxos, Rystsov 2018; a place for plain writes
// is not in it.)
//
// Invariants:
//
//	S1  An acceptor's answer is durable before it is given.
//	S2  A version is named by the ballot that first proposed it, and one ballot
//	    proposes at most one thing.
//	S3  Only what a majority of the slots has accepted is committed. A slot in
//	    transition has accepted when both its nodes did.
//	S4  A proposal that a later decision has passed over stays passed over: what
//	    was accepted at or below the last committed ballot is ignored.
//	S5  FAILED and a read's answer are given only after nothing that was
//	    proposed before can take effect without being seen: by a majority whose
//	    records agree and of which none holds an undecided proposal, or behind a
//	    decided no-op that carries the record.
//	S6  OK is said only of a proposal that was decided, FAILED only of one that
//	    never will be.
//	S7  Of the attempts of one request at most one is ever decided, as long as its
//	    acceptors remember: each that accepted the one that was decided holds it, or
//	    a note of it in its place (State.Carried). A Prepare asks for both; a
//	    proposal without a Prepare is refused where either is found. A retry counts
//	    only acceptors that would remember.
//
// An accepted proposal carries the complete record that results, not the new
// version alone; a no-op carries the record as its proposer saw it.
//
// The steady state takes one round trip: who accepts a ballot also promises the
// proposer's next one. With that promise in hand the proposer skips its Prepare
// for the next operation of the key. It then judges the condition by what it
// remembers of the record, so the acceptors compare: its own node's must be just
// that record, and the others must have nothing beyond it. Else they refuse, and
// the operation begins with a Prepare.
package cas
