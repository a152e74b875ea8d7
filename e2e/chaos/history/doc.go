// Package history records what clients of a region did and saw while faults
// were injected, and says afterwards what must not have happened. It knows no
// client, no process and no fault, so that its checkers can be tested on
// histories with violations planted in them.
//
// Two kinds of keys:
//
//   - Sets: many clients add unique elements to one key. An adding client
//     reads, makes the union of all siblings and its own element, and writes
//     it with the context of the read; a blind one writes its element alone.
//     Whatever the interleaving, the union of a key's siblings has to hold
//     every acknowledged element at the end (Jepsen's set, over siblings).
//   - Registers: one client each, which puts and deletes with the context of
//     its last write, and reads with R + W > N. So it always knows what the
//     key has to be, up to operations whose outcome is unknown.
//
// What is checked:
//
//	H1  An acknowledged element is in the final union of its key, at every
//	    place that was read.
//	H2  A write that was definitely not applied is never seen, by anybody.
//	H3  Nothing is seen that nobody tried to write, or not to this key.
//	H4  A register reads as the last acknowledged operation left it; a deleted
//	    one stays absent (no resurrection).
//	    One that its client was told may have been carried out twice may show as
//	    two equal siblings, and is the register's last.
//	H5  Every value carries its key, writer, number and a checksum, and they
//	    are right.
//	H6  Places that have converged hold the same.
//
// It starts no goroutine. All types are safe for concurrent use.
package history
