// Package failover is what changes the map of regions, step by step: switchover (a
// region is taken out of service, nothing is lost), failover (a region is lost, the
// others go on), failback (it returns), rebuild (it begins anew with empty disks),
// remove (it is gone for good), and add (a new one comes in). Each operation is a line of stages with a
// guard each; who drives it collects Facts, asks Advance, and stores what it says with
// the map, in one change. So whoever drives next goes on where the last one stopped.
//
// It is pure: it knows no clock, network or store, and it does not decide whether a
// region is lost. Account counts what clocks say is missing where.
//
// Invariants:
//
//	F1  A stage is left only when its guard held by facts that were collected after
//	    it was entered.
//	F2  Until homes have moved an operation can be aborted. A region that was fenced
//	    comes back by the stages of failback in any case, so that it is counted again
//	    only when it has what the others took without it. One whose disks are gone
//	    serves nobody before that, not even reads (REBUILDING).
//	F3  A region is counted by all nodes that answer before it is ACTIVE.
//	F4  Homes leave a region that lives only when nothing that was proposed there is
//	    undecided any more, and what was decided is in the others.
//	F5  Homes leave a region that may live unseen only when no lease holds there any
//	    more; without leases nobody can say so (regionmap.Lease).
//	F6  What a stage waits for is let go of only when every owner of every region that
//	    the stage is about has said that it does not have it, twice, and the operation
//	    tells what it was (Barrier, Operation.Lost).
//
// The pictures of the stages and of a region's states in docs/dr.md are made from the table
// here; a test holds them equal.
package failover
