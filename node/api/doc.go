// Package api is the rim of a node: the gRPC services that clients speak to.
// It translates between the wire and coord's operations, multiplexes streams
// and maps errors; it decides nothing about data, replicas or levels.
//
// Invariants:
//
//	A1  Every call is answered exactly once, or its stream ends.
//	A2  A stream that ends with reason STOPPING has answered every call that
//	    it started; what it did not answer it never started.
//	A3  What one client makes a node hold is bounded: calls in flight, bytes
//	    queued, items per batch. Over a bound the answer is OVERLOADED, and
//	    well over it the node stops reading from that client.
//	A4  An error of a write says what became of the write. What is not known
//	    to be without effect is unknown.
//	A5  A deadline is always set: 2 s by default, 60 s at most.
//	A6  Every operation passes one gate (limiter), however it came. What the
//	    node has no room for is refused before anything was done, as
//	    OVERLOADED with the time after which to try again; what has waited
//	    until its deadline is not begun.
//
// Goroutines: gRPC runs one for each unary call. A Stream has two, one that
// receives and one that sends, however many calls it carries; both end with
// the stream. The limiter's runners start what has waited; they end when
// nothing waits. The coordinator's callbacks run in the coordinator's goroutines
// and never block here.
package api
