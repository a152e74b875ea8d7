package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// What an owner remembers of clients' requests, so that a write which comes
// twice is one event: by id and hash of the key a trace, which is one of
//
//	1 actor(4) n(8) stamp(8): this event carried it out
//	2 ballot(8): a fence; see ask.go
//	3 actor(4) n(8) stamp(8), actor(4) n(8): this event carried it out, zero if
//	  that is not known, as a version that was decided by consensus
//	4 actor(4) n(8): that version was proposed for it, and nobody knows here
//	  whether it was decided
//
// window.go keeps them, and forgets them after a while. Beside it is
//
//	'k' partition(2) -> ms(8) ms(8): the owner's memory begins then, and from then on
//	  every retry asks it
//
// A trace is written in one transaction with the record, by who mints the event
// and, where a message names the request, by Apply. Messages that deliver events
// do: fan-out, anti-entropy (the dot index keeps the ids), hints, and the log for
// other regions. A read repair or a full sync does not. So others than the minter
// may not know; but the minter does, unless it lost its memory.
//
// An owner's memory of a partition begins anew where that may have happened: when
// it begins to hold the partition, or to catch up with others; after a stop that
// was not clean, since what it had minted and not yet made durable may be on its
// way to others; and when the partition's owners change, since one that is none
// any more is not asked. Of a request that was made before, by its id, it never
// says that it was not carried out.
//
// What a retry leaves at the owners keeps the request's first attempt, which asks
// nobody and may arrive later, from being a second event. So an owner that retries
// did not ask yet when the request was made, or that has lost its fences since, must
// not mint a first attempt: it is a newcomer. That is an owner which begins to mint
// in the partition, or begins anew to catch up with others. The coordinator has
// another owner mint, and if all are newcomers the attempt asks like a retry.

const (
	// RequestWindow is for how long after its making a request is remembered.
	RequestWindow = 10 * time.Minute
	// RequestAhead is how far a client's clock may be ahead of the owners'.
	RequestAhead = 5 * time.Second
	// traceLife leaves room for clocks that do not agree.
	traceLife = RequestWindow + time.Minute
)

var (
	// ErrRequestOld says that nobody would remember the request any more.
	ErrRequestOld = fmt.Errorf("the request was made more than %v ago, by its id: whether it was carried out is forgotten", RequestWindow)
	// ErrNewcomer says that an earlier retry of the request may not have asked this
	// node, which so must not mint the first attempt; nothing was written.
	ErrNewcomer = errors.New("this node has had a part in the key's partition for too short a time to know of all attempts of the request")
	// ErrFenced says that another attempt of the request has begun since.
	ErrFenced = errors.New("another attempt of the request has begun since")
	// ErrForbidden says that the request was ended by who asked for its outcome.
	ErrForbidden = errors.New("the outcome of the request was asked for, which ended it")
)

// Forbid is the ballot that ends a request for good.
const Forbid = 1<<64 - 1

// trace is what is known of a request: an event, or a fence, or neither.
type trace struct {
	dot    crdt.Dot
	stamp  hlc.Stamp
	ballot uint64
	// version that was decided by consensus, or, in doubt, may have been.
	version crdt.Dot
	doubt   bool
}

// happened reports whether the request was carried out.
func (t *trace) happened() bool { return !t.dot.IsZero() || !t.version.IsZero() && !t.doubt }

// carried is what a proposer hears of it.
func (t *trace) carried() cas.Carried {
	if !t.happened() && !t.doubt {
		return cas.Carried{Ended: t.ballot == Forbid}
	}
	return cas.Carried{Version: t.version, Event: t.dot, Stamp: t.stamp, Doubt: t.doubt}
}

const (
	traceEvent  = 1
	traceFence  = 2
	traceSerial = 3
	traceDoubt  = 4
)

func memoryKey(p hashring.Partition) []byte { return partitionKey(spaceMemory, p) }

func (t *trace) encode(dst []byte) []byte {
	put := func(d crdt.Dot) {
		dst = binary.BigEndian.AppendUint32(dst, uint32(d.Actor))
		dst = binary.BigEndian.AppendUint64(dst, d.N)
	}
	switch {
	case t.doubt:
		dst = append(dst, traceDoubt)
		put(t.version)
		return dst
	case !t.happened():
		return binary.BigEndian.AppendUint64(append(dst, traceFence), t.ballot)
	case t.version.IsZero():
		dst = append(dst, traceEvent)
	default:
		dst = append(dst, traceSerial)
	}
	put(t.dot)
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.stamp))
	if !t.version.IsZero() {
		put(t.version)
	}
	return dst
}

// traceSize is how many bytes a trace of that kind has, 0 for none.
func traceSize(kind byte) int {
	switch kind {
	case traceEvent:
		return 21
	case traceFence:
		return 9
	case traceSerial:
		return 33
	case traceDoubt:
		return 13
	}
	return 0
}

func decodeTrace(b []byte) (t trace, err error) {
	dot := func(b []byte) crdt.Dot {
		return crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(b)), N: binary.BigEndian.Uint64(b[4:])}
	}
	if len(b) == 0 || len(b) != traceSize(b[0]) {
		return t, fmt.Errorf("trace of a request: %w", storage.ErrCorrupt)
	}
	switch b[0] {
	case traceEvent, traceSerial:
		t.dot = dot(b[1:])
		t.stamp = hlc.Stamp(binary.BigEndian.Uint64(b[13:]))
		if b[0] == traceSerial {
			t.version = dot(b[21:])
		}
	case traceDoubt:
		t.version, t.doubt = dot(b[1:]), true
	case traceFence:
		t.ballot = binary.BigEndian.Uint64(b[1:])
	}
	if b[0] == traceEvent && t.dot.IsZero() || b[0] != traceEvent && b[0] != traceFence && t.version.IsZero() {
		return trace{}, fmt.Errorf("trace of a request by nothing: %w", storage.ErrCorrupt)
	}
	return t, nil
}

// forgetRequests decides that this node's memory of the partition's requests
// begins now.
func (p *partition) forgetRequests(tx storage.Txn) error {
	now := time.Now()
	p.memory = now.UnixMilli()
	return p.putMemory(tx)
}

// forgetAttempts is forgetRequests of a newcomer: retries ask it from now on.
func (p *partition) forgetAttempts(tx storage.Txn) error {
	p.stand.asked = time.Now().UnixMilli()
	return p.forgetRequests(tx)
}

// begins decides that retries have always asked this node, if nothing was ever
// written to the partition: so all owners of a region that begins mint at once. (Whose
// disk was wiped before the first write is taken for one that begins, too: a retry that
// had asked it before would have to wait in another owner's queue all the while.)
func (p *partition) begins(tx storage.Txn) error {
	if p.stand.role != topology.Serving || len(p.decided.clock.Actors()) > 0 {
		return nil
	}
	p.stand.asked = 0
	return p.putMemory(tx)
}

func (p *partition) putMemory(tx storage.Txn) error {
	b := binary.BigEndian.AppendUint64(milliseconds(p.memory), uint64(p.stand.asked))
	if err := tx.Put(memoryKey(p.id), b); err != nil {
		return fmt.Errorf("note since when requests in partition %d are known: %w", p.id, err)
	}
	return nil
}

// loadMemory finds out since when the requests of a partition are known, and all
// retries asked. Who has no note of it has lost it.
func loadMemory(g getter, p hashring.Partition) (memory, asked int64, err error) {
	b, err := g.Get(memoryKey(p))
	if isNotFound(err) || errors.Is(err, storage.ErrCorrupt) || err == nil && len(b) != 16 {
		now := time.Now().UnixMilli()
		return now, now, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read since when requests in partition %d are known: %w", p, err)
	}
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), nil
}

func milliseconds(ms int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(ms)) }

// trace decides the traces of the events that an item delivers, and of those
// that came before without word of their requests.
func (it *applyItem) trace(w *window, tx storage.Txn) {
	for _, e := range it.IDs {
		if contains(it.gone, e.Dot) {
			continue
		}
		if !contains(it.effect.dots, e.Dot) && it.traced(w, tx, e) {
			continue
		}
		t := trace{dot: e.Dot}
		if v := it.in.Find(e.Dot); v != nil {
			t.stamp = v.Stamp
		}
		if it.in.HasBallots() {
			// What is known of the version stays.
			if was, err := w.find(tx, it.keyHash, e.ID); err == nil && was.happened() {
				t.version, t.stamp = was.version, max(t.stamp, was.stamp)
			}
		}
		w.note(it.keyHash, e.ID, t)
	}
}

// traced reports whether it is known which event carried out the request of one that was
// delivered before. What cannot be read stays so: others know, too.
func (it *applyItem) traced(w *window, tx storage.Txn, e crdt.EventID) bool {
	if !w.mayKnow(it.keyHash, e.ID) {
		return false
	}
	// What is long is the block. The index has what came with the event, as long as it
	// has the event.
	if b, err := tx.Get(indexKey(nil, it.effect.part.id, e.Dot)); err == nil {
		if x, ok := decodeIndexed(b); ok && x.id == e.ID {
			return true
		}
	}
	t, err := w.find(tx, it.keyHash, e.ID)
	return err != nil || !t.dot.IsZero()
}

// sure reports whether an owner whose memory begins then would know of a request
// that it had carried out: because that was made, by its id, after the beginning
// and not too long ago.
func sure(id crdt.RequestID, memory int64, now time.Time) bool {
	made, ok := id.MadeAt()
	if !ok {
		return false
	}
	ms := now.UnixMilli()
	return ms-made <= RequestWindow.Milliseconds() && made-ms <= RequestAhead.Milliseconds() &&
		made-RequestAhead.Milliseconds() > memory
}

// met reports whether whatever retry of a request there was has asked an owner that
// all of them ask since then. Where the id does not tell when it was made, no retry
// is ever sure that it was the only one.
func met(id crdt.RequestID, asked int64) bool {
	made, ok := id.MadeAt()
	return !ok || asked == 0 || made-RequestAhead.Milliseconds() > asked
}

// requestOver reports whether a request is too old to be carried out.
func requestOver(id crdt.RequestID, now time.Time) bool {
	made, ok := id.MadeAt()
	return ok && now.UnixMilli()-made > RequestWindow.Milliseconds()
}

// RequestOver returns ErrRequestOld for a request that nobody carries out any more.
func RequestOver(id crdt.RequestID, now time.Time) error {
	if requestOver(id, now) {
		return ErrRequestOld
	}
	return nil
}
