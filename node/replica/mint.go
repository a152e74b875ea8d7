package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

var (
	// ErrNoActor says that this node may not mint now; nothing was written.
	ErrNoActor = errors.New("this node has no actor to mint with yet")
	// ErrTooManySiblings says that a write would leave more siblings than a
	// key may have; see SiblingsError.
	ErrTooManySiblings = errors.New("too many siblings")
	// ErrUninformed says that a write comes after what was not delivered here yet;
	// nothing was written.
	ErrUninformed = errors.New("the write comes after others that were not delivered here yet")
	// ErrContextRequired says that a live value is there which the writer has not
	// seen; see Mint.Blind.
	ErrContextRequired = errors.New("the key has a value, and the write has no context")
	// ErrStopping says that the node is on its way down.
	ErrStopping = errors.New("node is stopping")
	// ErrExpired says that a write's time was over before it was decided.
	ErrExpired = errors.New("the write's deadline passed before it was decided")
	// ErrClockSkew says that this node's clock is too far from its peers'.
	ErrClockSkew = errors.New("this node's clock is more than 250 ms off its peers'")
	// ErrAmnesia says that the client's context shows a dot of this node's
	// actor that the node does not know: it has lost state.
	ErrAmnesia = errors.New("this node has lost writes of its own and takes a new actor")
)

// LostError says that the write comes after others that are lost for good; nothing
// was written.
type LostError struct{ Lost *crdt.Clock }

func (e *LostError) Error() string { return "the write comes after others that are lost" }

// ConditionError says that the condition of a Mint does not hold here; nothing
// was written.
type ConditionError struct{ Record crdt.Record }

func (e *ConditionError) Error() string { return "the condition of the write does not hold" }

// SiblingsError tells what a refused write would have left: more than
// Mint.MaxSiblings versions, or several of more than MaxRecord bytes together.
// It wraps ErrTooManySiblings.
type SiblingsError struct {
	Versions, Bytes int
	// Most is Mint.MaxSiblings.
	Most int
}

func (e *SiblingsError) Error() string {
	return fmt.Sprintf("%v: %d versions of %d bytes", ErrTooManySiblings, e.Versions, e.Bytes)
}

// Unwrap makes errors.Is(err, ErrTooManySiblings) true.
func (e *SiblingsError) Unwrap() error { return ErrTooManySiblings }

// Mint is a client's write, to be decided here.
type Mint struct {
	Key     []byte // full key
	KeyHash uint64
	// Epoch of the topology by which this node was chosen; 0 is not fenced.
	Epoch topology.Epoch
	// Context of the read that the write follows; zero for a blind one.
	Context crdt.Context
	// Needs, nil for nothing, must have been delivered here, and the write's stamp
	// is above Above: what the writer's session knows of the partition. Without it
	// the write is refused with ErrUninformed.
	Needs *crdt.Clock
	Above hlc.Stamp
	// Soft are writes of the key that the session made: of each the event must have
	// been delivered, or the version be covered.
	Soft []session.Soft
	// Overwrite: the write also follows whatever is stored here.
	Overwrite bool
	// Condition is judged by what is stored here, when the write is decided. Other
	// owners may hold, or mint at the same time, what it should have seen.
	Condition crdt.Condition
	Dead      bool
	Value     []byte
	// TTL in milliseconds, 0 for never.
	TTL int64
	// Blind refuses the write, with ErrContextRequired, where a live value is.
	Blind bool
	// MaxSiblings bounds the versions that a write which adds one may leave, 0
	// for no bound.
	MaxSiblings int
	// ID of the request, zero for none: then the write is minted only if the
	// request was not carried out before. Ballot of an attempt that has asked all
	// owners, 0 for the first one; see ask.go.
	ID     crdt.RequestID
	Ballot uint64
	// Expires is when nobody waits for the write any more, zero for never: one
	// that is still in the queue then is not decided.
	Expires time.Time
	// Decided is called when the version exists and before it is durable here;
	// Done when it is durable, or with an error. Both run on the committer's
	// goroutine and must not block. Decided may be nil.
	Decided func(*Minted)
	Done    func(*Minted, error)
}

// Minted is what came of a Mint.
type Minted struct {
	Dot   crdt.Dot
	Stamp hlc.Stamp
	// Context covers the version and what it followed, and nothing else of the
	// key that anybody may lack; see crdt.Context.After.
	Context crdt.Context
	// Record is the encoding of the key's whole record with the version in it.
	Record []byte
	// Versions of the record.
	Versions int
	// Replayed: nothing was minted; the request had been carried out before.
	Replayed bool
}

// Mint queues m. It returns at once. It is refused with ErrStale when m.Epoch is
// too old for the partition, and with ErrNotOwner or ErrBehind when this node
// does not serve it, and with ErrNewcomer where an event or a fence of the request
// may be that this node does not know of.
func (r *Replica) Mint(m Mint) {
	if err := r.note(r.view.Load().standing(r.Partition(m.KeyHash)).serves(m.Epoch)); err != nil {
		m.Done(nil, err)
		return
	}
	r.submit(&mintOp{r: r, Mint: m})
}

type mintOp struct {
	r *Replica
	Mint
	minted Minted
	effect effect
}

func (o *mintOp) Size() int {
	n := len(o.Key)*2 + len(o.Value) + 160
	if !o.ID.IsZero() {
		n += requestRoom
	}
	return n
}

// requestRoom is about what an id takes in a transaction: its trace, and its
// place in the index.
const requestRoom = 160

func (o *mintOp) Decide(tx storage.Txn) error {
	if !o.Expires.IsZero() && time.Now().After(o.Expires) {
		return ErrExpired
	}
	p := o.r.Partition(o.KeyHash)
	if err := o.r.note(o.r.decidedStanding(p).serves(o.Epoch)); err != nil {
		return err
	}
	part := o.r.held[p]
	if !o.ID.IsZero() {
		if done, err := o.replay(tx); done || err != nil {
			return err
		}
	}
	actor := o.r.minter
	if actor == 0 {
		return ErrNoActor
	}
	if o.r.skewed.Load() {
		return ErrClockSkew
	}
	if part.decided.losses.Ended(actor) {
		// Others have closed this incarnation while it was away: what it made now
		// would be taken for lost.
		o.r.forget()
		return ErrAmnesia
	}
	n := part.highest(actor)
	if o.Context.Seen.Get(actor) > n {
		o.r.forget()
		return ErrAmnesia
	}
	if o.r.damage.isReplaced(o.Key) {
		return errReplaced
	}
	if o.Needs != nil {
		// What was decided before this is durable before it.
		missing, lost := look(part.decided.losses, o.Needs, beyond(part.decided.clock, o.Needs))
		if lost != nil {
			return &LostError{lost}
		}
		if missing != nil {
			o.r.stats.MintsBehind.Add(1)
			return ErrUninformed
		}
	}
	old, err := getRecord(tx, o.KeyHash, o.Key)
	if err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			o.r.unreadable(o.KeyHash, o.Key)
		}
		return err
	}
	for _, s := range o.Soft {
		if !part.decided.clock.Contains(s.Event) && !old.Covers(s.Version) {
			o.r.stats.MintsBehind.Add(1)
			return ErrUninformed
		}
	}
	stored, floors := old, part.decided.floors
	old = shown(old, floors)
	if !o.Condition.Holds(old, o.Context.Seen, o.r.hlc.Now()) {
		return &ConditionError{old}
	}
	if o.Blind && !(crdt.Condition{Kind: crdt.IfAbsent}).Holds(old, nil, o.r.hlc.Now()) {
		return ErrContextRequired
	}
	seen := o.Context.Seen
	if o.Overwrite {
		seen = seen.Join(old.Context().Seen)
	}
	seen = o.r.settles.settle(p, o.Key, seen, old)
	now := o.r.hlc.Now()
	v := crdt.Version{
		Dot:   crdt.Dot{Actor: actor, N: n + 1},
		Stamp: o.r.hlc.Next(max(o.Context.Stamp, o.Above, old.MaxStamp(), floors.Promised)),
		Dead:  o.Dead,
		Value: o.Value,
	}
	if o.TTL > 0 {
		v.Expiry = now + o.TTL
	}
	rec := crdt.Write(old, seen, v)
	if planted.Bug(planted.LatestWins) {
		rec = crdt.Record{Versions: []crdt.Version{*rec.Find(v.Dot)}}
	}
	encoded := crdt.AppendRecord(nil, o.KeyHash, rec)
	if err := o.fits(old, rec, len(encoded)); err != nil {
		return err
	}
	v.Past = seen
	after := crdt.Context{Seen: seen}.After(old, &v)
	if planted.Bug(planted.NoHoles) {
		after.Seen = seen.With(v.Dot)
	}
	o.minted = Minted{Dot: v.Dot, Stamp: v.Stamp, Context: after, Record: encoded, Versions: len(rec.Versions)}
	o.effect = effect{
		part:   part,
		dots:   []crdt.Dot{v.Dot},
		bucket: bucketOf(o.Key),
		delta:  o.r.digest(o.KeyHash, stored) ^ o.r.digest(o.KeyHash, rec),
	}
	if err := putRecord(tx, o.KeyHash, o.Key, o.minted.Record); err != nil {
		return err
	}
	if err := o.r.learn(tx, o.KeyHash, o.Key, rec); err != nil {
		return err
	}
	if !o.ID.IsZero() {
		o.effect.ids = []crdt.EventID{{Dot: v.Dot, ID: o.ID}}
		o.r.window.note(o.KeyHash, o.ID, trace{dot: v.Dot, stamp: v.Stamp})
	}
	return o.r.settle(tx, &o.effect, o.Key)
}

// newcomer reports whether this is the first attempt of a request of which a retry may
// not have asked this node.
func (m *Mint) newcomer(is standing) bool {
	return !m.ID.IsZero() && m.Ballot == 0 && !met(m.ID, is.asked)
}

// replay finds out whether the request was carried out before, or may not be any
// more. What it finds is durable when the group is (C3).
func (o *mintOp) replay(tx storage.Txn) (done bool, err error) {
	if requestOver(o.ID, time.Now()) {
		return false, ErrRequestOld
	}
	t, err := o.r.window.find(tx, o.KeyHash, o.ID)
	if err != nil {
		return false, err
	}
	if t.doubt {
		return false, ErrFenced
	}
	if t.dot.IsZero() {
		if planted.Bug(planted.ForgetRequest) {
			return false, nil
		}
		if err := t.mayMint(o.Ballot); err != nil {
			return false, err
		}
		if o.newcomer(o.r.held[o.r.Partition(o.KeyHash)].stand) {
			return false, ErrNewcomer
		}
		return false, nil
	}
	if o.r.damage.isReplaced(o.Key) {
		return false, errReplaced
	}
	rec, err := getRecord(tx, o.KeyHash, o.Key)
	if err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			o.r.unreadable(o.KeyHash, o.Key)
		}
		return false, err
	}
	o.minted = Minted{
		Dot: t.dot, Stamp: t.stamp, Context: o.Context.Again(rec, t.dot, t.stamp),
		Record: crdt.AppendRecord(nil, o.KeyHash, rec), Versions: len(rec.Versions), Replayed: true,
	}
	o.r.stats.Replayed.Add(1)
	return true, nil
}

// fits refuses a write before anything of it is written: one that adds a
// sibling beyond the bound (also with a context, which may be old and come
// again and again), and one that makes the record too large to store.
func (o *mintOp) fits(old, rec crdt.Record, size int) error {
	n := len(rec.Versions)
	adds := n > len(old.Versions)
	if n > 1 && (size > o.r.MaxRecord() || adds && o.MaxSiblings > 0 && n > o.MaxSiblings) {
		return &SiblingsError{Versions: n, Bytes: size, Most: o.MaxSiblings}
	}
	return o.r.checkRoom(size + len(o.Key)*2 + 200 + requestRoom)
}

// MaxRecord is how large, in bytes, a client's write may make the record of a
// key that has siblings. Apply takes a third more, so that what others wrote at
// the same time still fits beside it.
func (r *Replica) MaxRecord() int { return storage.MaxOp(r.engine) / 4 * 3 }

// checkRoom refuses an operation that may not fit into a transaction. Beyond
// this point the committer would have to stop for good.
func (r *Replica) checkRoom(bytes int) error {
	if limit := storage.MaxOp(r.engine); bytes > limit {
		return fmt.Errorf("operation of %d bytes, at most %d: %w", bytes, limit, storage.ErrTooLarge)
	}
	return nil
}

func (o *mintOp) Decided() {
	if o.Mint.Decided != nil {
		o.Mint.Decided(&o.minted)
	}
}

func (o *mintOp) Done(err error) {
	if err != nil {
		o.Mint.Done(nil, err)
		return
	}
	if !o.minted.Replayed {
		o.r.harden(&o.effect)
		o.r.outbox.add(o.effect.part.id, crdt.EventID{Dot: o.minted.Dot, ID: o.ID}, o.Key, o.minted.Record)
	}
	o.Mint.Done(&o.minted, nil)
}

// settle writes the index entries of an effect whose record is written, and
// moves the decided state. All dots are new to the decided clock. The digest
// delta stands in the first entry; an effect without a dot has no entry, so
// the whole state is written instead.
func (r *Replica) settle(tx storage.Txn, e *effect, fullKey []byte) error {
	var buf [64]byte
	for i, d := range e.dots {
		x := indexed{key: fullKey, id: e.request(d)}
		if i == 0 {
			x.delta = e.delta
		}
		value := appendIndexed(make([]byte, 0, indexHead+len(x.id)+len(fullKey)), &x)
		if err := tx.Put(indexKey(buf[:0], e.part.id, d), value); err != nil {
			return fmt.Errorf("write dot index: %w", err)
		}
	}
	p := e.part
	p.decided.take(e)
	p.unsaved += len(e.dots)
	if len(e.dots) == 0 || p.unsaved >= snapshotEvery {
		return p.putSnapshot(tx)
	}
	return nil
}

func (r *Replica) digest(keyHash uint64, rec crdt.Record) uint64 {
	return crdt.Digest(r.cfg.DigestSeed, keyHash, rec)
}

type getter interface {
	Get(key []byte) ([]byte, error)
}

// getRecord returns the zero Record for an absent key.
func getRecord(g getter, keyHash uint64, fullKey []byte) (crdt.Record, error) {
	var buf [128]byte
	b, err := g.Get(recordKey(buf[:0], keyHash, fullKey))
	if isNotFound(err) {
		return crdt.Record{}, nil
	}
	if err != nil {
		return crdt.Record{}, fmt.Errorf("read record: %w", err)
	}
	rec, err := crdt.DecodeRecord(keyHash, b)
	if err != nil {
		return crdt.Record{}, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return rec, nil
}

func putRecord(tx storage.Txn, keyHash uint64, fullKey, encoded []byte) error {
	var buf [128]byte
	if err := tx.Put(recordKey(buf[:0], keyHash, fullKey), encoded); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func isNotFound(err error) bool { return errors.Is(err, storage.ErrNotFound) }

// Partition of a key hash.
func (r *Replica) Partition(keyHash uint64) hashring.Partition {
	return hashring.PartitionOf(keyHash, r.partitions)
}
