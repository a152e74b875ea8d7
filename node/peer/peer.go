// Package peer is the seam between nodes: requests addressed to a node, and
// their replies. It carries bytes; what they mean is the business of the
// packages that declare the verbs.
//
// Adapters: grpcpeer (one multiplexed bidirectional gRPC stream per peer, and
// a second one for large messages) and memnet (a seeded memory fabric that
// delays, drops, duplicates, reorders and partitions). Both pass peertest.
//
// Invariants:
//
//	P1  done is called exactly once for each Send, never on the stack of Send:
//	    a lock that is held across Send may be taken in done.
//	P2  An error that wraps ErrNotSent means that the peer never saw the
//	    request. Any other error but *Refusal means that it is not known
//	    whether the peer acted on it.
//	P3  Requests are not ordered among each other.
//	P4  A message above LargeMessage bytes does not hold up small ones.
package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

const (
	// LargeMessage is the size in bytes above which a message travels on the
	// peer's second stream.
	LargeMessage = 64 << 10
	// MaxMessage bounds one message in bytes.
	MaxMessage = 32 << 20
)

// Verb says what a request asks for. The numbers are wire format.
type Verb uint8

// The verbs between nodes.
const (
	VerbPing    Verb = 1
	VerbRead    Verb = 2 // one key's record
	VerbApply   Verb = 3 // join finished records
	VerbForward Verb = 4 // run a client's operation as its coordinator
	VerbCompare Verb = 5 // which partitions' clocks or digests differ
	VerbPull    Verb = 6 // records behind the dots that the asker lacks
	VerbBuckets Verb = 7 // digests of hash-prefix buckets of a partition
	VerbScan    Verb = 8 // a page of a partition's records
	VerbStatus  Verb = 9 // what a node knows of itself

	VerbTopology Verb = 10 // give and take topologies
	VerbMoves    Verb = 11 // how far a node is with the moves to it
	VerbHint     Verb = 12 // keep a record for an owner that is away
	VerbCollect  Verb = 13 // a step of a round of tombstone collection
	VerbOperate  Verb = 14 // an operator's question or order to every node

	VerbRegionApply Verb = 15 // have the own region's owners join finished records
	VerbRegionRead  Verb = 16 // what the own region's owners hold of a key
	VerbOutcome     Verb = 17 // what is known of a request id
	VerbSerial      Verb = 18 // a step of a key's consensus
	VerbSerialState Verb = 19 // a page of the consensus states of a partition
	VerbAnnounce    Verb = 21 // take another region's heartbeat, which the sender got
	VerbSerialRead  Verb = 20 // read a key through its consensus
	VerbRegions     Verb = 24 // tell the map of regions, or vote on its next content
	VerbGap         Verb = 26 // another region's log has lost something: compare clocks
	VerbHomePut     Verb = 30 // run a write in the home region of its bucket, as its coordinator
)

// Request is one message to a peer.
type Request struct {
	Verb Verb
	// Epoch is the sender's topology epoch; 0 in requests to other regions,
	// which are not fenced.
	Epoch topology.Epoch
	// Timeout bounds the wait for the reply and is passed on to the peer,
	// which does not start what has expired. It must be positive.
	Timeout time.Duration
	// Body is handed over: neither side changes it afterwards.
	Body []byte
}

// ErrNotSent says that the peer did not get the request.
var ErrNotSent = errors.New("not sent")

// ErrNotTried wraps ErrNotSent: the sender itself would not take the request
// (too large, no time left, too much queued), so it says nothing of the peer.
var ErrNotTried = fmt.Errorf("%w: refused by this node", ErrNotSent)

// ErrTimeout says that no reply came in time: the peer may have acted.
var ErrTimeout = errors.New("no reply in time")

// ErrLinkLost says that the link broke while a reply was awaited: the peer
// may have acted.
var ErrLinkLost = errors.New("link lost before the reply")

// Code classifies a refusal. The numbers are wire format.
type Code uint8

// The codes of a refusal. Except for CodeUnknown, a refused request had no
// effect.
const (
	CodeInternal   Code = 1
	CodeStaleEpoch Code = 2 // the sender's topology is too old for this partition
	CodeNotOwner   Code = 3
	CodeOverloaded Code = 4
	CodeExpired    Code = 5 // deadline passed before the work began
	CodeFull       Code = 6 // disk watermark
	CodeCorrupt    Code = 7 // the stored record is unreadable here
	CodeInvalid    Code = 8
	CodeUnknown    Code = 9 // begun, and not known whether it took effect
	CodeStopping   Code = 10
	CodeBehind     Code = 11 // the peer is catching up and does not answer yet
	CodeLate       Code = 12 // parts of it are old, and may have been deleted since
	CodeFenced     Code = 13 // belongs to a home region, or an epoch of it, that decides nothing any more
)

// Refusal is an answer that says no. It crosses the wire.
type Refusal struct {
	Code   Code
	Detail string
}

func (r *Refusal) Error() string { return fmt.Sprintf("peer refused (code %d): %s", r.Code, r.Detail) }

// RefusalOf is what an error of a Handler becomes on the wire: the *Refusal that
// it is or wraps, else CodeInternal with its text. It is a copy, its detail cut
// to MaxDetail.
func RefusalOf(err error) *Refusal {
	no := Refusal{Code: CodeInternal}
	if r := (*Refusal)(nil); errors.As(err, &r) {
		no = *r
	} else {
		no.Detail = err.Error()
	}
	if no.Code == 0 {
		no.Code = CodeInternal
	}
	no.Detail = no.Detail[:min(len(no.Detail), MaxDetail)]
	return &no
}

// Done takes the outcome of a Send: a reply, or an error (see P2; a *Refusal
// when the peer said no). It must not block.
type Done func(reply []byte, err error)

// Transport sends requests to peers.
type Transport interface {
	// Send queues req for node to and returns at once. It may be called from
	// a Done.
	Send(to topology.NodeID, req Request, done Done)
}

// Handler serves requests. It is called on the goroutine that reads the link:
// it must not block, and calls reply exactly once, now or later, from any
// goroutine. An error that is not a *Refusal is sent as CodeInternal.
type Handler func(from topology.NodeID, req Request, reply Done)

// Call is Send for callers that can wait. A ctx that ends first gives its
// error, and the outcome is unknown.
func Call(ctx context.Context, t Transport, to topology.NodeID, req Request) ([]byte, error) {
	type outcome struct {
		reply []byte
		err   error
	}
	ch := make(chan outcome, 1)
	if dl, ok := ctx.Deadline(); ok {
		if left := time.Until(dl); left < req.Timeout {
			req.Timeout = left
		}
	}
	if req.Timeout <= 0 {
		return nil, fmt.Errorf("%w: no time left", ErrNotTried)
	}
	t.Send(to, req, func(reply []byte, err error) { ch <- outcome{reply, err} })
	select {
	case o := <-ch:
		return o.reply, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
