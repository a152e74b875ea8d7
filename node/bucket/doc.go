// Package bucket says which buckets there are and how their definitions change
// and merge. It is pure; package catalog keeps them in the store.
//
// A Table holds one Definition of each bucket that was ever defined. Tables of
// two regions that changed at the same time are merged by name: the definition
// with the higher (revision, stamp) holds, but a bucket that was made as mv in one
// place and as lww in another is mv, since that loses nothing.
//
// A deleted bucket stays in the table, marked. Its keys are not deleted: nobody
// can reach them until a bucket of that name and kind is made again, and then
// they are there again. So no key can ever be read by the rules of another kind.
//
// Invariants:
//
//	B1  Merge is commutative, associative and idempotent.
//	B2  A definition's kind never changes, but by the merge of an mv and an lww
//	    bucket that were made at the same time.
//	B3  A revision grows by one with each change, deletion and making anew
//	    included.
//	B4  Equal tables have equal encodings.
//	B5  A bucket leaves no region that it is in.
package bucket
