package storage

// Op is one write intent in the committer's queue. The committer calls, in
// this order and from its own goroutine:
//
//	Decide   inside the group's transaction: read, then write. On an error the
//	         op has no part in the group, so Decide must do all that can fail
//	         on its own account before its first write.
//	Decided  once every op of the group is decided and before the sync: the
//	         place from which replication overlaps the local sync. Not called
//	         when Decide failed. Must not block.
//	Done     with nil when the group is durable; with Decide's error; or with
//	         an error that wraps ErrFailed when the sync failed (the outcome
//	         is unknown). Must not block.
type Op interface {
	// Size is a rough byte count of what Decide will write.
	Size() int
	Decide(tx Txn) error
	Decided()
	Done(err error)
}
