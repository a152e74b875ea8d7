package replica

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// An attempt of a write that is not the first one asks all owners whether the
// request was carried out, before it mints. Each leaves a fence behind its "no",
// with the ballot of the attempt: from then on it mints for the request only in
// an attempt of exactly this ballot, and none of a lower one. So of all attempts
// that were told "no" by all owners at most one mints:
//
//	Let a and b be two, a's ballot the lower one. a mints at an owner that has a
//	fence of a's ballot then. b asked that owner too. If it did before, the fence
//	was b's (a fence only rises), and a was refused; if it did after, b was told
//	of a's event.
//
// The first attempt has no ballot, and mints where there is no fence. Who asks
// for the outcome only has the highest ballot (Forbid), which nobody mints with.

// Ask is a question about a request.
type Ask struct {
	Key     []byte // full key
	KeyHash uint64
	// Epoch of the topology by which this node was chosen; 0 is not fenced.
	Epoch topology.Epoch
	ID    crdt.RequestID
	// Ballot of the fence that is left, not 0.
	Ballot uint64
}

// Known is what this owner knows of a request.
type Known struct {
	// Dot and Stamp of the event that carried it out, zero for none that this
	// owner knows of. The stamp is 0 if the event came here after its version had
	// been replaced.
	Dot   crdt.Dot
	Stamp hlc.Stamp
	// Record is the encoding of the key's record, if there is an event.
	Record []byte
	// Sure: this node has not carried it out. It may not know of what others did.
	Sure bool
	// Higher: a fence with a higher ballot is here already.
	Higher bool
}

// Ask tells what this owner knows of a request, and leaves a fence if that is
// nothing. done gets ErrStale, ErrNotOwner or ErrBehind when this node cannot
// tell; it runs on the committer's goroutine, or at once, and must not block.
func (r *Replica) Ask(a Ask, done func(Known, error)) {
	r.submit(&askOp{r: r, Ask: a, done: done})
}

type askOp struct {
	r *Replica
	Ask
	known Known
	done  func(Known, error)
}

// Size is 0: that an owner's disk is full must not keep others from writing.
func (o *askOp) Size() int { return 0 }
func (o *askOp) Decided()  {}

func (o *askOp) Decide(tx storage.Txn) error {
	p := o.r.Partition(o.KeyHash)
	st := o.r.decidedStanding(p)
	if err := o.r.note(st.takes(o.Epoch)); err != nil {
		return err
	}
	if st.role == topology.Pending || st.mark != 0 {
		return ErrBehind
	}
	t, err := o.r.window.find(tx, o.KeyHash, o.ID)
	if err != nil {
		return err
	}
	if t.happened() {
		if o.known = (Known{Dot: t.dot, Stamp: t.stamp}); !t.version.IsZero() {
			o.known.Dot = t.version
		}
		o.known.Record, err = o.r.recordNow(tx, o.KeyHash, o.Key)
		return err
	}
	o.known.Sure = sure(o.ID, o.r.held[p].memory, time.Now())
	if undecided, err := o.r.undecided(tx, o.KeyHash, o.Key, o.ID); undecided || t.doubt || err != nil {
		o.known.Sure = false // whoever comes next may yet finish it
		return err
	}
	o.known.Higher = t.ballot > o.Ballot
	if t.ballot >= o.Ballot {
		return nil
	}
	o.r.window.note(o.KeyHash, o.ID, trace{ballot: o.Ballot})
	return nil
}

func (o *askOp) Done(err error) { o.done(o.known, err) }

// recordNow is the encoding of what is stored of a key; of an absent one, that
// of the record without versions.
func (r *Replica) recordNow(tx storage.Txn, keyHash uint64, key []byte) ([]byte, error) {
	if r.damage.isReplaced(key) {
		return nil, errReplaced
	}
	rec, err := getRecord(tx, keyHash, key)
	if err != nil {
		return nil, err
	}
	return crdt.AppendRecord(nil, keyHash, rec), nil
}

// handleOutcome serves VerbOutcome.
func (r *Replica) handleOutcome(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeAsk(req.Body)
	if err != nil {
		reply(nil, Refuse(err))
		return
	}
	a := Ask{Key: m.Key, KeyHash: hashring.KeyHash(m.Key), Epoch: req.Epoch, ID: m.ID, Ballot: m.Ballot}
	r.Ask(a, func(k Known, err error) {
		if err != nil {
			reply(nil, Refuse(err))
			return
		}
		reply(wire.AppendKnown(nil, wire.Known{
			Dot: k.Dot, Stamp: uint64(k.Stamp), Record: k.Record, Sure: k.Sure, Higher: k.Higher,
		}), nil)
	})
}

// mayMint reports whether an attempt with that ballot is the one that the
// request's trace lets mint.
func (t *trace) mayMint(ballot uint64) error {
	switch t.ballot {
	case ballot:
		return nil
	case Forbid:
		return ErrForbidden
	}
	return ErrFenced
}
