// Package geo carries writes between regions: the pump ships what a region
// minted to its delivery log, the drain applies what other regions' logs
// carry, and lag counts from clocks what is still missing. It never decides
// what a value is, and never believes the log: a dot counts as delivered only
// when a clock says so.
//
// geo does not import node. They meet in Source (what to ship) and Sink
// (where to apply). The log is a seam with two adapters: geo/jetstream and
// geo/memlog, which both pass geo/geotest.
//
// Invariants:
//
//	G1  What travels is a key's whole current record, so order, loss and
//	    duplication cost time, never data.
//	G2  A foreign record mints nothing and is never published again.
//	G3  A batch is acknowledged to the log only after every entry is durable
//	    at a quorum of this region's owners.
//	G4  Nothing a client waits for waits for the log.
//	G5  A batch for one region is delivered to no other.
package geo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// Entry is one key's current record on its way to other regions, with the
// dots thereby delivered (the record may already cover some of them). An entry
// without a record tells of dots alone: of keys of a bucket that the receiving
// region does not have.
type Entry struct {
	// To is the one region that the entry is for, "" for all of them.
	To        string
	Partition hashring.Partition
	// Key is the full key: bucket, NUL, key. Without a record it ends with the NUL.
	Key []byte
	// Record is the record's canonical encoding, or empty.
	Record []byte
	// Size, where there is no record and it is not 0, is how large the record was
	// when it was shipped: it is to be fetched; see claim.go.
	Size int
	Dots []crdt.Dot
	// IDs say which clients' requests some of the dots carried out.
	IDs []crdt.EventID
}

// Mark is a position in the dots that one actor of this node minted.
type Mark struct {
	Partition hashring.Partition
	Actor     crdt.Actor
	// N is the highest counter that is covered.
	N uint64
}

// Source is what the pump ships: the dots that this node minted and the log
// has not confirmed.
type Source interface {
	// Peek returns entries of about max bytes (at least one, if there is any)
	// for dots after the marks given out last, one entry per key, and the
	// marks that shipping them reaches. It returns nothing when there is
	// nothing new. Rewind makes Peek start again at the confirmed marks.
	Peek(max int) ([]Entry, []Mark, error)
	Rewind()
	// Confirm remembers (lazily, not at once durably) that the log holds all
	// dots up to the marks. Called in the order of the Peeks.
	Confirm([]Mark) error
	// Pending tells how many minted dots are not confirmed.
	Pending() uint64
	// Wake receives after something new was minted. One reader.
	Wake() <-chan struct{}
}

// Sink applies entries from another region. It returns nil when each entry is
// durable at a quorum of this region's owners.
type Sink interface {
	ApplyRemote(ctx context.Context, origin string, entries []Entry) error
}

// Batch is one message of a log.
type Batch struct {
	Header Header
	// To is the one region that gets the batch, "" for all of them.
	To string
	// Data is the encoded entries; see batch.go.
	Data []byte
}

// For reports whether a region is to get the batch.
func (b *Batch) For(region string) bool { return b.To == "" || b.To == region }

// Header travels beside the data of a batch.
type Header struct {
	// Origin is the region and Node the node that published.
	Origin, Node string
	// Incarnation is the publishing node's actor. Session names one run of
	// its pump: an actor outlives a clean restart, a count of batches does
	// not; what goes to one region only has a session of its own. Number counts
	// the batches of a session from 1.
	Incarnation crdt.Actor
	Session     uint64
	Number      uint64
	// Count is the number of entries.
	Count int
	// Codec of Data: "none" or "s2".
	Codec string
}

// ID is the message id of a batch: the log may drop a second batch with the
// same id, so two batches with one id must have the same content.
func (h Header) ID() string {
	return fmt.Sprintf("%s/%d/%x/%d", h.Node, uint32(h.Incarnation), h.Session, h.Number)
}

// Log is the region's own delivery log.
type Log interface {
	// Append publishes and returns at once; done is called exactly once, with
	// nil when the log has confirmed the batch, from a goroutine of the log's.
	// An error that wraps ErrTooLarge says that no retry can help; any other
	// error leaves open whether the log holds the batch.
	Append(b Batch, done func(error))
	// Wanted is false while no region takes what is appended: each has much that
	// it has not taken, and has taken nothing for some seconds. Then it is better
	// to wait: a key that is written often will cross once. It is false, too, while
	// each that takes has enough to take for a while: more would only fill the log,
	// which has an end. It does not block.
	Wanted() bool
	// Silent is for how long no region has taken anything, since a batch was
	// appended that could be taken; 0 while nothing was, and where that is not
	// known. It shows a cut long before Wanted does, and every round trip, too. It
	// does not block.
	Silent() time.Duration
	// Announce tells all listening regions something small, unreliably: the
	// clock heartbeats.
	Announce(data []byte) error
}

// LogState is what a log holds, as far as was last seen.
type LogState struct {
	// Batches and their bytes, of at most MaxBytes: then the oldest go.
	Batches, Bytes, MaxBytes uint64
	// Oldest is when the first of them was appended; zero when there is none.
	Oldest time.Time
	// Open is how many each region has not taken yet.
	Open map[string]uint64
}

// Stated is a log that tells its state; false before it has looked.
type Stated interface {
	State() (LogState, bool)
}

// Feed is another region's log, seen from here.
type Feed interface {
	// Run pulls until ctx ends, calling handle (concurrently, at most
	// Window at a time) and returns when all handlers have returned. A link
	// that breaks is taken up again inside Run.
	Run(ctx context.Context, on FeedHandler) error
}

// FeedHandler is what a feed calls.
type FeedHandler interface {
	// Batch handles one delivery: nil acknowledges it, an error asks for it
	// again later. An error that wraps ErrPoison drops the batch for good. One
	// that is a *Later puts off the answer, and makes room for others meanwhile.
	Batch(ctx context.Context, b Batch) error
	// Announced gets what the other region announced.
	Announced(data []byte)
	// Gap says that the log lost or skipped something (fell off the stream,
	// the stream was made anew): clocks must find what is missing.
	Gap(reason string)
	// Link says whether the link to the other region is up.
	Link(up bool)
}

var (
	// ErrPoison marks a batch that can never be applied (it does not decode).
	ErrPoison = errors.New("batch cannot be applied")
	// ErrCrowded marks a batch that is to come again later since too many of its kind
	// wait: it says nothing of other batches.
	ErrCrowded = errors.New("too many large records wait to be fetched")
	// ErrTooLarge marks a batch that is above what the log takes.
	ErrTooLarge = errors.New("batch is too large for the log")
)
