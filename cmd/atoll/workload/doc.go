// Package workload makes load and measures what it meets: which operation on
// which key comes next, when, and how long it took. It does not know what
// carries the operations out, and prints nothing.
//
// In a closed loop each of N clients sends its next operation when the last
// was answered: it shows how much a system can do, and hides how long callers
// would have had to wait while it stood still. In an open loop operations
// have a time at which they should begin, whatever became of those before, and
// latency counts from that time, so that a stall is seen by all who would have
// come meanwhile (Tene's "coordinated omission").
//
// Invariants:
//
//	W1  Every operation of an open loop that was due is measured from when it
//	    was due, or counted as not started.
//	W2  Only successes have a latency; failures are counted by reason.
//	W3  At most Clients operations are under way.
//	W4  What is due before the warm-up has passed is carried out and not
//	    counted.
//
// Goroutines: Run has one for each client, and one that reports; it ends them.
package workload
