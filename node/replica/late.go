package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// The late-message rule. A version that was written at or below the raised
// floor, and that the local record does not know, may be a value whose delete
// everybody has had and forgotten. So Apply refuses, on the committer's goroutine
// and before anything is written, a message with such versions about which
// nothing is known. They are then asked about (Witness), outside of the
// committer, and the message is queued again with what came of it:
//
//	another owner holds it                                  it is applied
//	the sender vouches for it and nobody had and lost it    it is applied
//	two owners, this one included, had it and have not      it goes to the side
//	                                                        log, not to the record
//	else                                                    the whole message is
//	                                                        refused (ErrLate)
//
// A sender vouches by naming the floor that it had raised when it read the
// record from its store, not lower than this node's. Within a full sync that is
// enough for whatever this node's clock has not.

// ErrLate says that a message has versions from before the floor and that
// nobody can tell now whether they were deleted. Nothing of it was applied.
var ErrLate = errors.New("nobody can tell whether old versions were deleted since")

// Doubt is about some versions of a key.
type Doubt struct {
	Key  []byte // full key
	Dots []crdt.Dot
}

// Word is what other owners say of one version. Who neither has nor had it says
// nothing.
type Word struct {
	// Holds: one has the version.
	Holds bool
	// Lack is how many had it delivered and have it no more.
	Lack int
	// Covered is an encoded record with a version that superseded it, nil for
	// none.
	Covered []byte
}

// Witness asks the other owners of a partition, in all regions, less except, and
// waits for their answers. The words are in the order of the doubts' dots; all
// says whether everybody answered.
type Witness func(ctx context.Context, p hashring.Partition, except topology.NodeID, doubts []Doubt) (words [][]Word, all bool, err error)

// SetWitness must be called before Run; without a witness what is late is
// refused.
func (r *Replica) SetWitness(w Witness) { r.doubts.witness = w }

// Source says where a message comes from.
type Source struct {
	// From sent it, "" if that is not known; its word does not count.
	From topology.NodeID
	// Vouches: From is an owner that read the records from its store when its
	// raised floor was Floor.
	Vouches bool
	Floor   hlc.Stamp
	// Whole: part of a full sync.
	Whole bool
}

// ApplyFrom is Apply for what is known to come from somewhere.
func (r *Replica) ApplyFrom(src Source, epoch topology.Epoch, entries []wire.Entry, done func(changed int, err error)) {
	r.apply(&applyOp{r: r, epoch: epoch, src: src, done: done}, entries)
}

const (
	// maxDoubts bounds the messages that wait for words; beyond it they are
	// refused.
	maxDoubts = 256
	// doubters ask at once.
	doubters = 8
	// doubtTurns is how often a message is asked about: its key may change
	// between the words and the decision.
	doubtTurns = 3
	// doubtTimeout bounds one question to the others.
	doubtTimeout = 2 * time.Second
)

type doubts struct {
	witness Witness
	queue   chan *applyOp
}

// errDoubt sends a message to those who ask.
var errDoubt = fmt.Errorf("%w: not asked yet", ErrLate)

// late returns what of an item is late and without a verdict. It runs on the
// committer's goroutine.
func (o *applyOp) late(it *applyItem, local crdt.Record, f wire.Floors) []crdt.Dot {
	if !lateRule(f) {
		return nil
	}
	var late []crdt.Dot
	if o.src.vouches(f) && o.src.Whole {
		late = crdt.LateVouched(it.in, local, it.effect.part.decided.clock, f.Raised)
	} else {
		late = crdt.Late(it.in, local, f.Raised)
	}
	return slices.DeleteFunc(late, func(d crdt.Dot) bool { return contains(it.passed, d) || contains(it.gone, d) })
}

func (s Source) vouches(f wire.Floors) bool { return s.Vouches && s.Floor >= f.Raised }

// ask hands a message that was refused with errDoubt to those who ask; else it
// is refused for good.
func (o *applyOp) ask() bool {
	d := &o.r.doubts
	if d.witness == nil || o.turn >= doubtTurns || o.r.stopping.Load() {
		return false
	}
	o.turn++
	select {
	case d.queue <- o:
		return true
	default:
		return false
	}
}

// runDoubts asks until ctx ends; who waits then is refused.
func (r *Replica) runDoubts(ctx context.Context) {
	var all sync.WaitGroup
	for range doubters {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case o := <-r.doubts.queue:
					o.resolve(ctx)
				}
			}
		})
	}
	all.Wait()
	for {
		select {
		case o := <-r.doubts.queue:
			o.done(0, ErrStopping)
		default:
			return
		}
	}
}

// resolve asks about what is late in o, one question a partition, and queues it
// again, or refuses it.
func (o *applyOp) resolve(ctx context.Context) {
	late := map[hashring.Partition][]*applyItem{}
	for i := range o.items {
		if it := &o.items[i]; len(it.asks) > 0 {
			late[it.partition] = append(late[it.partition], it)
		}
	}
	for p, items := range late {
		if err := o.judge(ctx, p, items); err != nil {
			o.r.stats.LateRefused.Add(1)
			o.done(0, err)
			return
		}
	}
	for i := range o.items {
		o.items[i].asks = nil
	}
	o.r.submit(o)
}

func (o *applyOp) judge(ctx context.Context, p hashring.Partition, items []*applyItem) error {
	ctx, cancel := context.WithTimeout(ctx, doubtTimeout)
	defer cancel()
	asked := make([]Doubt, len(items))
	for i, it := range items {
		asked[i] = Doubt{it.Key, it.asks}
	}
	words, _, err := o.r.doubts.witness(ctx, p, o.src.From, asked)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLate, err)
	}
	if len(words) != len(asked) {
		return ErrLate
	}
	clock, f := o.r.Clock(p), o.r.Floors(p)
	if clock == nil {
		return ErrNotOwner
	}
	for i, it := range items {
		if len(words[i]) != len(it.asks) {
			return ErrLate
		}
		for j, d := range it.asks {
			w := words[i][j]
			lack := w.Lack
			if clock.Contains(d) {
				lack++
			}
			switch {
			case w.Holds || o.src.vouches(f) && lack == 0:
				it.passed = append(it.passed, d)
				o.r.stats.LateConfirmed.Add(1)
			case lack < 2:
				return ErrLate
			default:
				it.gone = append(it.gone, d)
			}
		}
	}
	return nil
}

// strip takes what is gone out of an item, into the side log.
func (o *applyOp) strip(tx storage.Txn, it *applyItem) error {
	if len(it.gone) == 0 {
		return nil
	}
	whole, err := crdt.DecodeRecord(it.keyHash, it.Record)
	if err != nil {
		return err
	}
	o.r.stats.LateKept.Add(uint64(len(it.gone)))
	return o.r.aside.put(tx, it.partition, it.keyHash, it.Key, only(whole, it.gone))
}

// only is the versions of rec that dots name.
func only(rec crdt.Record, dots []crdt.Dot) crdt.Record {
	var rest []crdt.Dot
	for i := range rec.Versions {
		if d := rec.Versions[i].Dot; !contains(dots, d) {
			rest = append(rest, d)
		}
	}
	return crdt.Without(rec, rest)
}
