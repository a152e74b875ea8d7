package memnet

// Stats counts what a fabric did. A run that injects no fault of a class did
// not test it.
type Stats struct {
	Sent      uint64 // calls of Send
	Delivered uint64 // calls of a handler
	Replied   uint64 // sends that ended with a reply or a refusal

	DroppedRequests, DroppedReplies uint64
	Duplicated, Reordered           uint64
	CutRequests, CutReplies         uint64 // stopped by Cut or Partition
	Vanished                        uint64 // to or from a crashed life
	Expired                         uint64 // refused on arrival, deadline passed

	NotSent, LinksLost, Timeouts uint64 // sends that ended so
}
