// Package regionmap is the map of the regions: which there are, what each of them
// may do now, and where what is decided by consensus of all regions has its home.
//
// It is a small value that all nodes of all regions know: kept in the store of each
// region and on the disk of each node, and told from node to node. It holds no member
// of any region (that is a topology's business), no address that a client connects
// to, and it decides nothing by time: who may change it when is package failover's.
//
// Invariants:
//
//	R1  A higher number n replaces a lower one, whatever either says. Of two with
//	    one number the forced one, then the one of the higher region, then the one
//	    of the greater bytes is gone by; and whoever has seen two contents of one
//	    number says so (Known.Contested) until there is a higher one. Join is
//	    commutative, associative and idempotent: it does not matter who tells whom.
//	R2  What is not forced is decided by a majority of the regions that are not
//	    REMOVED (Register): there are never two such contents of one number.
//	R3  A region's fence number and the epoch of a home only rise.
//	R4  Number 0 is what nodes were configured with. It is never stored, told or
//	    contested.
//	R5  A region that is REMOVED stays so, and its number is never given again: what
//	    was written there has it in its names. Its name may be: that is another
//	    region (an incarnation), and at most one of a name is not REMOVED.
//	R6  With a lease that binds a region (Lease), no node of it holds one any more once
//	    it is Shut and Wait has gone by since.
//
// A region that is not ACTIVE or DRAINING is not counted: nobody waits for it, and
// no level asks for it. A region that the map does not know is not counted either.
//
// Register is the CASPaxos of Rystsov (2018) with one acceptor a region, whose state
// is swapped in that region's own store.
package regionmap
