package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Apply joins records that were decided elsewhere: replication, read repair,
// anti-entropy, other regions. done gets how many records changed, when all of
// them are durable; it runs on the committer's goroutine and must not block.
// A record that is not one gives an error that wraps wire.ErrMalformed, and
// none of the entries is applied; so does a partition in which this node has no
// role, with ErrNotOwner.
func (r *Replica) Apply(entries []wire.Entry, done func(changed int, err error)) {
	r.ApplyAt(0, entries, done)
}

// ApplyAt is Apply for who counts on this node as an owner by the topology of
// that epoch: it is refused with ErrStale when a partition's row has changed
// since, however long it waited here. Epoch 0 is not fenced.
func (r *Replica) ApplyAt(epoch topology.Epoch, entries []wire.Entry, done func(changed int, err error)) {
	r.apply(&applyOp{r: r, epoch: epoch, done: done}, entries)
}

func (r *Replica) apply(op *applyOp, entries []wire.Entry) {
	done := op.done
	op.items = make([]applyItem, len(entries))
	v := r.view.Load()
	for i, e := range entries {
		it := &op.items[i]
		it.Entry = e
		it.keyHash = hashring.KeyHash(e.Key)
		it.partition = r.Partition(it.keyHash)
		if e.Skips() {
			if err := r.checkSkip(&e); err != nil {
				done(0, err)
				return
			}
			it.partition = e.Skip
		}
		err := r.note(v.standing(it.partition).takes(op.epoch))
		if err != nil {
			done(0, err)
			return
		}
		if !e.Skips() {
			if it.in, err = crdt.DecodeRecord(it.keyHash, e.Record); err != nil {
				done(0, fmt.Errorf("%w: %w", wire.ErrMalformed, err))
				return
			}
		}
		for _, d := range e.Dots {
			// A clock that took such a dot could not be read again.
			if d.Actor == 0 || d.N == 0 || d.N > crdt.MaxN || d.Actor.IsBallot() {
				done(0, fmt.Errorf("%w: dot %v", wire.ErrMalformed, d))
				return
			}
		}
		for _, id := range e.IDs {
			// What the clock takes is in Dots, or in the record.
			if id.ID.IsZero() || !contains(e.Dots, id.Dot) && !it.in.Covers(id.Dot) {
				done(0, fmt.Errorf("%w: request of %v, which is not delivered", wire.ErrMalformed, id.Dot))
				return
			}
		}
		op.size += len(e.Key) + len(e.Record) + 64 + it.indexSize()
	}
	r.submit(op)
}

type applyOp struct {
	r       *Replica
	epoch   topology.Epoch
	items   []applyItem
	size    int
	changed int
	done    func(int, error)
	heal    *Damage // see Heal
	src     Source
	turn    int // of asking; see late.go
}

type applyItem struct {
	wire.Entry
	keyHash   uint64
	partition hashring.Partition
	in        crdt.Record
	old, out  crdt.Record
	encoded   []byte // of out, if it is to be written
	effect    effect
	// asks are late versions without a verdict; passed and gone have one.
	asks, passed, gone []crdt.Dot
	// hurt: what is stored is unreadable. doubt: it is, or has been since.
	hurt, doubt bool
}

// indexSize is about what the index entries of all its dots take.
func (it *applyItem) indexSize() int {
	return indexRoom(len(it.Key), len(it.in.Versions)+len(it.Dots), len(it.IDs)+1)
}

// indexRoom is about what the index entries of a key's events take, and the traces
// of the requests that some of them carried out.
func indexRoom(key, dots, ids int) int { return dots*(key+64+17) + ids*(46+64) }

func (o *applyOp) Size() int { return o.size }
func (o *applyOp) Decided()  {}

// Patient: no client waits for what an owner has read from its store, to copy it
// or to repair with it.
func (o *applyOp) Patient() bool { return o.src.Vouches }

// Bulk: what a client waits for is one record. Many come from other regions, moves,
// repair and hints, and their order means nothing to each other, or to anything else:
// a link may hold any of them back as long as it likes.
func (o *applyOp) Bulk() bool { return len(o.items) > 1 }

// Decide reads everything before it writes anything: what is refused, or would
// become too large, must take the whole operation out of the group, not a part
// of it.
func (o *applyOp) Decide(tx storage.Txn) error {
	room := 0
	o.changed = 0
	doubt := false
	var earlier map[string]int // for keys that occur twice
	if len(o.items) > 1 {
		earlier = make(map[string]int, len(o.items))
	}
	for i := range o.items {
		it := &o.items[i]
		if err := o.r.note(o.r.decidedStanding(it.partition).takes(o.epoch)); err != nil {
			return err
		}
		it.effect = effect{part: o.r.held[it.partition]}
		if it.Skips() {
			room += it.indexSize()
			continue
		}
		if j, ok := earlier[string(it.Key)]; ok {
			it.old, it.doubt = o.items[j].out, o.items[j].doubt
		} else {
			old, err := getRecord(tx, it.keyHash, it.Key)
			if it.hurt = errors.Is(err, storage.ErrCorrupt); err != nil && !it.hurt {
				return err
			}
			it.old, it.doubt = old, it.hurt || o.r.damage.isReplaced(it.Key)
		}
		f := it.effect.part.decided.floors
		local := shown(it.old, f)
		if it.asks = o.late(it, local, f); len(it.asks) > 0 {
			doubt = true
			continue
		}
		if len(it.gone) > 0 {
			it.in = crdt.Without(it.in, it.gone)
			if o.r.aside.full() {
				return ErrAsideFull
			}
		}
		it.out = shown(crdt.Join(local, it.in), f)
		if it.changedRecord() {
			it.encode()
		}
		room += len(it.Key) + len(it.encoded) + it.indexSize()
		if earlier != nil {
			earlier[string(it.Key)] = i
		}
	}
	if doubt {
		return errDoubt
	}
	if err := o.r.checkRoom(room); err != nil {
		return err
	}
	if o.heal != nil {
		if err := o.end(tx); err != nil {
			return err
		}
	}
	for i := range o.items {
		it := &o.items[i]
		if it.Skips() {
			if err := o.r.skip(tx, it); err != nil {
				return err
			}
			continue
		}
		if it.hurt && o.heal == nil {
			if err := o.r.replace(tx, it); err != nil {
				return err
			}
		}
		if err := o.strip(tx, it); err != nil {
			return err
		}
		if err := o.r.join(tx, it); err != nil {
			return err
		}
		it.trace(&o.r.window, tx)
		if it.changedRecord() {
			o.changed++
		}
	}
	return nil
}

// replace notes, durably, that a record is not what it was.
func (r *Replica) replace(tx storage.Txn, it *applyItem) error {
	if !it.changedRecord() {
		return nil // nothing came
	}
	if err := tx.Put(replacedKey(it.keyHash, it.Key), []byte{1}); err != nil {
		return fmt.Errorf("note that a record was replaced: %w", err)
	}
	r.stats.Replaced.Add(1)
	r.unreadable(it.keyHash, it.Key)
	r.damage.put(hurt{Damage: Damage{it.partition, it.keyHash, it.Key}, replaced: true})
	return nil
}

// end ends a damage, before the join of what heals it.
func (o *applyOp) end(tx storage.Txn) error {
	h := o.heal
	if _, err := o.r.decidedPart(o.r.Partition(h.KeyHash)); err != nil {
		return err
	}
	_, err := getRecord(tx, h.KeyHash, h.Key)
	if errors.Is(err, storage.ErrCorrupt) {
		err = tx.Delete(recordKey(nil, h.KeyHash, h.Key))
	}
	if err == nil {
		err = tx.Delete(replacedKey(h.KeyHash, h.Key))
	}
	if err != nil {
		return fmt.Errorf("heal a record: %w", err)
	}
	return nil
}

func (it *applyItem) changedRecord() bool { return !it.out.SameDots(it.old) }

// encode keeps what came where that is the outcome.
func (it *applyItem) encode() {
	it.encoded = it.Record
	if !it.out.SameDots(it.in) || len(it.gone) > 0 {
		it.encoded = crdt.AppendRecord(nil, it.keyHash, it.out)
	}
}

func (r *Replica) join(tx storage.Txn, it *applyItem) error {
	clock := it.effect.part.decided.clock
	it.effect.ids = it.IDs
	take := func(d crdt.Dot) {
		if d.Actor.IsBallot() {
			return // no event; see crdt.BallotActor
		}
		if r.minter != 0 && d.Actor == r.minter && !it.doubt && r.lost(it, d) {
			r.forget()
		}
		if !clock.Contains(d) && !contains(it.effect.dots, d) {
			it.effect.dots = append(it.effect.dots, d)
			if it.effect.part.own.Actor != d.Actor || d.N > it.effect.part.own.N {
				r.disprove(d)
			}
		}
	}
	for i := range it.in.Versions {
		take(it.in.Versions[i].Dot)
	}
	for _, d := range it.Dots {
		if !contains(it.gone, d) {
			take(d)
		}
	}
	changed := it.changedRecord()
	if !changed && len(it.effect.dots) == 0 {
		return nil
	}
	if changed {
		it.effect.bucket = bucketOf(it.Key)
		it.effect.delta = r.digest(it.keyHash, it.old) ^ r.digest(it.keyHash, it.out)
		if err := it.write(tx); err != nil {
			return err
		}
		if err := r.learn(tx, it.keyHash, it.Key, it.out); err != nil {
			return err
		}
	}
	return r.settle(tx, &it.effect, it.Key)
}

// lost reports whether d, a dot of this node's own actor, shows that the node
// has lost something that it does not know of: it never minted d as far as it knows, or it did and the
// record no longer shows it. What it minted before it dropped the partition is
// no proof.
func (r *Replica) lost(it *applyItem, d crdt.Dot) bool {
	part := it.effect.part
	if d.Actor == part.own.Actor && d.N <= part.own.N {
		return false
	}
	if !part.decided.clock.Contains(d) {
		return true
	}
	if f := part.decided.floors; f.Raised != 0 {
		// What is that old may have been collected.
		if v := it.in.Find(d); v == nil || v.Stamp <= f.Raised {
			return false
		}
	}
	// The event of a serial write names no version: no record shows it.
	return it.in.Covers(d) && !it.old.Covers(d)
}

// write stores what came out, nothing for what is absent.
func (it *applyItem) write(tx storage.Txn) error {
	if len(it.out.Versions) > 0 {
		return putRecord(tx, it.keyHash, it.Key, it.encoded)
	}
	if err := tx.Delete(recordKey(nil, it.keyHash, it.Key)); err != nil {
		return fmt.Errorf("delete a dead record: %w", err)
	}
	return nil
}

// healed: the key is served again.
func (r *Replica) healed(h *Damage) {
	p := r.Partition(h.KeyHash)
	r.damage.remove(p, func(x hurt) bool { return string(x.Key) == string(h.Key) })
	r.stats.Healed.Add(1)
	r.recountSoon(p)
}

func contains(dots []crdt.Dot, d crdt.Dot) bool {
	for _, x := range dots {
		if x == d {
			return true
		}
	}
	return false
}

func (o *applyOp) Done(err error) {
	if err == errDoubt && o.ask() {
		return
	}
	if err == nil {
		for i := range o.items {
			e := &o.items[i].effect
			if len(e.dots) > 0 || e.delta != 0 {
				o.r.harden(e)
			}
			if planted.Bug(planted.Republish) {
				for _, d := range e.dots {
					o.r.outbox.add(e.part.id, crdt.EventID{Dot: d}, o.items[i].Key, o.items[i].encoded)
				}
			}
		}
		if o.heal != nil {
			o.r.healed(o.heal)
		}
	}
	o.done(o.changed, err)
}

// JoinClock marks everything in c as delivered to partition p: the last step
// of a full sync, after all records of the one who gave c were applied.
func (r *Replica) JoinClock(p hashring.Partition, c *crdt.Clock, done func(error)) {
	if !r.Owns(p) {
		done(ErrNotOwner)
		return
	}
	r.submit(&clockOp{r: r, p: p, effect: effect{clock: c}, done: done})
}

type clockOp struct {
	r      *Replica
	p      hashring.Partition
	effect effect
	done   func(error)
}

func (o *clockOp) Size() int { return 256 }
func (o *clockOp) Decided()  {}

func (o *clockOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	if a := o.r.minter; a != 0 && o.effect.clock.Max(a) > part.highest(a) {
		o.r.forget()
	}
	if a := crdt.Actor(o.r.claimed.Load()); a != 0 && o.effect.clock.Max(a) > part.highest(a) {
		o.r.disprove(crdt.Dot{Actor: a})
	}
	o.effect.part = part
	part.decided.take(&o.effect)
	return part.putSnapshot(tx)
}

func (o *clockOp) Done(err error) {
	if err == nil {
		o.r.harden(&o.effect)
	}
	o.done(err)
}
