// Package session holds what a client's session knows: per partition that it
// touched, the write events that it saw or made, so that an owner can tell from
// its delivery clock whether it knows as much. It is pure.
//
// A token is what a client holds of it, between its requests: a sequence of
// pieces, each about one partition and sealed by itself. So whoever has no
// secret can still take a token apart by partition, send along only what is
// about the key in question, and put together what concurrent requests came
// back with: the pieces of several tokens are a token. Several pieces about one
// partition count together, and the next answer joins them into one.
//
// Invariants:
//
//	S1  Join knows at least what either side knows. Where nothing is folded it
//	    is commutative, associative and idempotent.
//	S2  What is folded asks for more than was seen, never for less.
//	S3  A piece is at most MaxPiece bytes and an answer's token at most MaxToken; what
//	    does not fit is counted and told, and never left out in silence.
//	S4  Dots of ballots never enter a clock.
package session
