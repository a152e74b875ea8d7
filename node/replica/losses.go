package replica

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// What of a partition is known to be lost for good (session.Losses) is durable at
// its owners: key space 'x', encoded by session.AppendLosses. It changes by
// operations of the committer, which only join. Owners that know differently show
// it to each other as they show their floors, inside a region and across, and who
// copies a partition takes it over before the clock: dots that a clock has and
// nobody delivered are never there without the word that they are lost.

// Lost returns which of needs are lost for good, as far as this node knows, nil
// for none.
func (r *Replica) Lost(p hashring.Partition, needs *crdt.Clock) *crdt.Clock {
	_, lost := r.Look(p, needs)
	return lost
}

// Look returns which of needs are not durable here in p, but may come, and which
// are lost; nil for none.
func (r *Replica) Look(p hashring.Partition, needs *crdt.Clock) (missing, lost *crdt.Clock) {
	part := r.part(p)
	if part == nil || needs == nil {
		return needs, nil
	}
	part.mu.Lock()
	missing, losses := beyond(part.durable.clock, needs), part.durable.losses
	part.mu.Unlock()
	return look(losses, needs, missing)
}

func look(losses *session.Losses, needs, missing *crdt.Clock) (still, lost *crdt.Clock) {
	if lost = losses.Of(needs, missing); lost == nil || missing == nil {
		return missing, hide(lost)
	}
	return beyond(lost, missing), hide(lost)
}

// hide is what a planted bug makes of a loss.
func hide(lost *crdt.Clock) *crdt.Clock {
	if planted.Bug(planted.HideLosses) {
		return nil
	}
	return lost
}

// Losses of a held partition, as durable; nil for none.
func (r *Replica) Losses(p hashring.Partition) *session.Losses {
	if part := r.part(p); part != nil {
		return part.lossesNow()
	}
	return nil
}

func (p *partition) lossesNow() *session.Losses {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durable.losses
}

// MeetLosses takes over what another owner knows to be lost: before its clock. It
// returns when that is durable.
func (r *Replica) MeetLosses(p hashring.Partition, theirs *session.Losses) error {
	return r.lose(p, theirs, nil)
}

// Void marks dots of p as delivered that nobody has, and says so in losses, at
// once.
func (r *Replica) Void(p hashring.Partition, void *crdt.Clock, losses *session.Losses) error {
	return r.lose(p, losses, void)
}

// CutRegion says of all partitions held here that of the events of a region's
// actors only those are left which this node has: the region was given up. fence
// orders that among the cuts of the region, see session.Cut. It returns when it is
// durable here; other owners learn of it by repair. Call it on every node, when
// what only some of them had of the region was passed on to all.
func (r *Replica) CutRegion(region topology.RegionID, fence uint64) error {
	return r.eachHeld(func(p hashring.Partition) error {
		cut := session.Cut{Region: uint8(region), Fence: fence}
		for _, d := range r.Clock(p).All() {
			if d.Actor.Region() == cut.Region {
				cut.Survives.AddSpan(d)
			}
		}
		return r.MeetLosses(p, &session.Losses{Cuts: []session.Cut{cut}})
	})
}

// OpenRegion withdraws the cut of a region that is back: call it with a fence
// above that of the cut, on one node at least, before the region takes writes.
func (r *Replica) OpenRegion(region topology.RegionID, fence uint64) error {
	return r.eachHeld(func(p hashring.Partition) error {
		return r.MeetLosses(p, &session.Losses{Cuts: []session.Cut{{Region: uint8(region), Fence: fence, Open: true}}})
	})
}

// CloseRegion says, where a region was cut, that nothing more will come of what its
// actors wrote before: its disks are gone. Events that the survivors lack are lost for
// good, and the region may begin anew with other actors: the cut is withdrawn, with a
// fence above its own. Call it on every node of the other regions before that region
// takes writes.
func (r *Replica) CloseRegion(region topology.RegionID, fence uint64) error {
	old := map[crdt.Actor]bool{} // of the region, in any partition that was cut
	cut := func(p hashring.Partition) *session.Cut {
		if l := r.Losses(p); l != nil {
			for i := range l.Cuts {
				if c := &l.Cuts[i]; c.Region == uint8(region) && !c.Open && c.Fence < fence {
					return c
				}
			}
		}
		return nil
	}
	err := r.eachHeld(func(p hashring.Partition) error {
		if c := cut(p); c != nil {
			for _, a := range c.Survives.Actors() {
				old[a] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.eachHeld(func(p hashring.Partition) error {
		out := &session.Losses{Cuts: []session.Cut{{Region: uint8(region), Fence: fence, Open: true}}}
		c, clock := cut(p), r.Clock(p)
		if c == nil {
			return r.MeetLosses(p, out)
		}
		for _, a := range slices.Sorted(maps.Keys(old)) {
			out.Ends = append(out.Ends, crdt.Dot{Actor: a, N: max(clock.Max(a), c.Survives.Max(a))})
			if n := c.Survives.Max(a); n > 0 {
				// What no survivor had below one that some of them had.
				all, rest := &crdt.Clock{}, &crdt.Clock{}
				all.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: n}})
				for _, d := range c.Survives.Missing(all) {
					rest.AddSpan(d)
				}
				for _, d := range clock.Missing(rest) {
					out.Void.AddSpan(d)
				}
			}
		}
		return r.Void(p, out.Void.Clone(), out)
	})
}

// eachHeld does something with all partitions that this node has a role in.
func (r *Replica) eachHeld(do func(hashring.Partition) error) error {
	for p := range hashring.Partition(r.partitions) {
		if !r.Owns(p) || r.Clock(p) == nil {
			continue
		}
		if err := do(p); err != nil && r.Owns(p) {
			return err
		}
	}
	return nil
}

func (r *Replica) lose(p hashring.Partition, more *session.Losses, void *crdt.Clock) error {
	part := r.part(p)
	if part == nil {
		return ErrNotOwner
	}
	if have := part.lossesNow(); have.Join(more).Equal(have) && (void == nil || part.Clock().Covers(void)) {
		return nil
	}
	if err := r.do(func(done chan error) storage.Op { return &lossOp{r: r, p: p, more: more, void: void, done: done} }); err != nil {
		return fmt.Errorf("note losses of partition %d: %w", p, err)
	}
	return nil
}

// lossOp joins losses, and with void a clock of what nobody has.
type lossOp struct {
	r      *Replica
	p      hashring.Partition
	more   *session.Losses
	void   *crdt.Clock
	effect effect
	done   chan error
}

func (o *lossOp) Size() int { return 0 }
func (o *lossOp) Decided()  {}

func (o *lossOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	all := part.decided.losses.Join(o.more)
	if err := tx.Put(lossKey(o.p), session.AppendLosses(nil, all)); err != nil {
		return fmt.Errorf("write losses: %w", err)
	}
	o.effect = effect{part: part, losses: all, clock: o.void}
	part.decided.take(&o.effect)
	if o.void == nil {
		return nil
	}
	if a := o.r.minter; a != 0 && o.void.Max(a) > part.highest(a) {
		o.r.forget()
	}
	return part.putSnapshot(tx)
}

func (o *lossOp) Done(err error) {
	if err == nil {
		o.r.harden(&o.effect)
	}
	o.done <- err
}

// loadLosses returns nil where nothing was lost. Unreadable ones are an error: a
// node that forgets them would answer sessions in silence.
func loadLosses(from getter, p hashring.Partition) (*session.Losses, error) {
	b, err := from.Get(lossKey(p))
	if isNotFound(err) {
		return nil, nil
	}
	var l *session.Losses
	if err == nil {
		var rest []byte
		if l, rest, err = session.DecodeLosses(b); err != nil || len(rest) > 0 {
			err = storage.ErrCorrupt
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read losses of partition %d: %w", p, err)
	}
	return l, nil
}

// LossSum is a hash of losses, 0 where nothing was lost.
func LossSum(l *session.Losses) uint64 {
	if l.Empty() {
		return 0
	}
	return max(1, xxhash.Sum64(session.AppendLosses(nil, l)))
}
