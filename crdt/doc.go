// Package crdt holds what a value is in Atoll: versions named by dots, each
// with its own past; records that join; clocks that account for delivery; and
// the rules by which tombstones leave. Everything in it is pure: no I/O, no
// goroutines, no wall clock, no randomness.
//
// It does not know keys (only their 64-bit hash, which binds encodings and
// contexts to a key), nodes, or storage.
//
// The causality is that of dotted version vectors (Preguica, Baquero, Almeida,
// Fonte, Goncalves 2010) in their original form: every version carries its own
// past. A context shared by a whole record is smaller, but a single record
// that one disk loses silently then takes siblings with it.
//
// Invariants:
//
//	C1  A dot names one write event and so one payload, for ever.
//	C2  Join is commutative, associative and idempotent, and never mints.
//	C3  A version is dropped only because another version of the same record
//	    has its dot in its past. Absence is never knowledge.
//	C4  A past is what the writer had seen for this key, closed under the
//	    pasts of what it had seen, and nothing of this key besides but what was
//	    replaced at all owners; it never holds its own version's dot.
//	C5  Equal records have equal bytes.
//	C6  A record that holds a version covers all earlier events of that one's
//	    actor on this key, less what was collected or kept back as late.
//	C7  A clock says what was delivered; it never decides what a value is.
package crdt
