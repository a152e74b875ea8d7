// Package regions keeps a node's knowledge of the map of regions (geo/regionmap), and
// changes it: it tells other nodes, keeps the map in the region's store and on the
// node's disk, takes part in deciding the next content, and proposes it.
//
// It does not say what the next content should be (geo/failover), and waits for no
// heartbeat: a region is out when people say so.
//
// Invariants:
//
//	M1  Known only rises, as Join says: nobody's old map takes anything back.
//	M2  What is known is on the disk soon after it is gone by; a node that forgets it
//	    asks the store of its region, its peers and other regions, and goes by the
//	    configured map until one answers.
//	M3  A promise or an acceptance counts when the region's store has it: one
//	    acceptor a region, whoever of its nodes is asked. A store that has lost its
//	    state has lost its promises, too; then a change that was under way may be
//	    contested, which is seen and stops what must not happen twice.
//	M4  A grant of a lease counts from no later than when the store of whoever gives it
//	    took a write that did not know yet that the region is out.
//
// Run owns the goroutine that tells and keeps; requests of others are served on
// goroutines of their own, at most maxServing at a time.
package regions
