// Package coord runs clients' operations: it finds who has to do with a key, has
// one of them decide a write, asks as many as the level needs, and says what
// was achieved. Any node coordinates any key; a write is forwarded once, to
// the server that mints it.
//
// It keeps no state of its own beyond the operations under way, decides
// nothing about values (crdt does) and stores nothing (replica does, and
// package hint for nodes that stand in).
//
// Invariants:
//
//	K1  done is called exactly once for each operation, from any goroutine.
//	K2  A write is answered with success only after as many slots as the level
//	    needs have it durably; a slot that moves has it when both its nodes
//	    do. In a sloppy write a hint for a node counts as that node.
//	K3  An error says NotApplied only if no owner can have the write, now or
//	    later.
//	K4  One request mints at most one version: what may have been minted is
//	    not minted again elsewhere.
//	K5  What is counted together was sent by one topology; see stale.go.
//	K6  A read shares the answer of another one only if that had asked nobody
//	    when it came; see join.go.
//
// Operations run on their callers' goroutines and on those that deliver
// replies; the package starts none that outlive an operation.
package coord
