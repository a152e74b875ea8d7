// Package yield decides how fast the background work of a node may go, so that
// its clients do not feel it: copies to and from it, repair, and what is given
// away. It does not know what the work is, or what it is bounded by otherwise.
//
// What clients feel is measured, not guessed: how long commits of their writes
// take here, and how long other nodes take to answer for their reads. In every
// Cycle all nodes hold their background work for a moment at the same time by
// the wall clock, and what is measured then is what things take without it
// (as BBR probes for the round-trip time of an empty path: Cardwell et al., "BBR:
// congestion-based congestion control", ACM Queue 2016). Between these moments
// the rate grows while the measured times are near to that, and shrinks when
// they are not (additive increase, multiplicative decrease). A lone long time is no
// reason: machines have others, such as disks that stand still for 40 ms. So the rate
// stays as it is when one was seen, and shrinks where nearly all are too long.
//
// Invariants:
//
//	Y1  The rate is never below Floor (a quarter of that for PayPatiently; UrgentFloor
//	    while the node does not answer for all of its partitions: redundancy goes
//	    before comfort), nor below a 64th of what the caller allows, a 256th for
//	    patient work (or what he allows, if that is less than Floor): whatever clients
//	    do, background work ends.
//	Y2  The rate is never above what the caller allows.
//	Y3  Nobody is held longer than Hold in a Cycle.
//	Y4  A node without clients, or with too few to measure, holds nothing and
//	    reaches what the caller allows within seconds.
//	Y5  Nodes need not agree on the time: one whose clock is off measures what
//	    others do as if it were always there, and yields less.
//
// There are no goroutines. The state moves on when somebody observes or asks.
package yield
