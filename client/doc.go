// Package client is Atoll's SDK for Go.
//
//	c, err := client.Open(ctx, "n1:7400,n2:7400", client.OnSiblings(client.SetUnionLines()))
//	obj, err := c.Get(ctx, "cart/42")
//	ver, err := c.Put(ctx, "cart/42", value, client.After(obj.Version()))
//	ver, err = c.Update(ctx, "cart/42", func(cur client.Object) ([]byte, error) { ... })
//
// A write names what it follows: After(version) replaces exactly what that
// version had seen. A write without it is blind, and stands beside what is
// there as a sibling. Writes of the same key in two regions, or by two clients
// at once, become siblings as well; nothing is lost, and a Resolver (or the
// caller) makes one value of them. Most callers want Update, which reads,
// resolves, modifies and writes.
//
// With a condition (IfAbsent, IfUnchanged, ...) a write happens only if that holds:
// certainly so at LocalSerial, where Update counts exactly.
//
// Nothing is silent: siblings without a resolver come as data and ErrSiblings,
// an error of a write says whether the write was applied, and Explain tells
// what an answer rests on.
//
// A Client goes on in another region when the map of regions takes its own out of
// service, and comes back; see Region, Fallback, Pin and OnRegionChange. What must not
// move (LocalSerial) does not.
//
// Invariants:
//
//	S1  A write whose outcome is not known to be "not applied" is never sent
//	    again; it is ErrUnknownOutcome.
//	S2  A resolver that fails, panics or takes too long leaves the siblings.
//	S3  What a resolver decided is written with the context of the read that
//	    it decided on, so that it replaces nothing that it did not see.
//	S4  Every call has a deadline: the context's, or else Timeout.
//	S5  No call needs a goroutine or a timer of its own.
//	S6  The map of regions alone moves a client, and the highest version of it; a
//	    level is never changed by that.
//
// Goroutines: for each node that was called one that connects and receives and
// one that sends; one that sweeps overdue calls, one that refreshes the
// topology, and one for each write-back under way. Close ends them all and
// waits. A resolver runs in one of its own, which is the resolver's to end.
//
// The package speaks only the public protocol: it imports proto, gRPC and the
// placement hash, and nothing of a node.
package client
