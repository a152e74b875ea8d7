package collect

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// owner is a Ledger in memory, and the simplest owner that there can be: it
// writes, takes what others have, crashes and loses things.
type owner struct {
	id      topology.NodeID
	actor   crdt.Actor
	boot    uint64
	duty    *Duty
	records map[string]crdt.Record
	clock   crdt.Clock
	minted  uint64
	floors  Floors
	waiting hlc.Stamp // lowest that waits here, 0 for nothing
	failing error
	// onComplete is told before a floor is completed.
	onComplete func(o *owner, floor hlc.Stamp)
}

var _ Ledger = (*owner)(nil)

// newOwners returns n owners with nothing.
func newOwners(n int) []*owner {
	out := make([]*owner, n)
	for i := range out {
		out[i] = &owner{id: topology.NodeID(fmt.Sprint("o", i)), actor: crdt.Actor(i + 1), records: map[string]crdt.Record{}}
		out[i].restart(0)
	}
	return out
}

// restart is a start with the same disk; another actor after an unclean stop.
func (o *owner) restart(actor crdt.Actor) {
	if actor != 0 {
		o.actor, o.minted = actor, 0
	}
	o.boot++
	o.duty = NewDuty(o, o.boot)
}

func (o *owner) write(key string, stamp hlc.Stamp, dead bool) crdt.Dot {
	if stamp <= o.floors.Promised {
		panic("minted at or below what was promised")
	}
	o.minted++
	d := crdt.Dot{Actor: o.actor, N: o.minted}
	r := o.records[key]
	o.records[key] = crdt.Write(r, r.Context().Seen, crdt.Version{Dot: d, Stamp: stamp, Dead: dead})
	o.clock.Add(d)
	return d
}

// sync takes everything that p has.
func (o *owner) sync(p *owner) {
	for k, r := range p.records {
		o.records[k] = crdt.Join(o.records[k], r)
	}
	o.clock.Join(&p.clock)
}

func (o *owner) Actor() crdt.Actor                    { return o.actor }
func (o *owner) Former() []crdt.Actor                 { return nil }
func (o *owner) Floors(hashring.Partition) Floors     { return o.floors }
func (o *owner) Clock(hashring.Partition) *crdt.Clock { return o.clock.Clone() }

func (o *owner) Promise(_ hashring.Partition, f hlc.Stamp) error {
	o.floors.Promised = max(o.floors.Promised, f)
	return o.failing
}

func (o *owner) Raise(_ hashring.Partition, f hlc.Stamp) error {
	o.floors.Raised = max(o.floors.Raised, f)
	return o.failing
}

func (o *owner) Complete(_ hashring.Partition, f hlc.Stamp) error {
	if o.onComplete != nil && f > o.floors.Completed {
		o.onComplete(o, f)
	}
	o.floors.Completed = max(o.floors.Completed, f)
	return o.failing
}

func (o *owner) Waiting(_ hashring.Partition, f hlc.Stamp) bool {
	return o.waiting != 0 && o.waiting <= f
}
func (o *owner) Void(_ hashring.Partition, c *crdt.Clock, _ *session.Losses) error {
	o.clock.Join(c)
	return o.failing
}

func (o *owner) Drop(_ hashring.Partition, f hlc.Stamp) error {
	for k, r := range o.records {
		if crdt.Collectible(r, f) {
			delete(o.records, k)
		}
	}
	return o.failing
}

func (o *owner) Spend(hashring.Partition, hlc.Stamp) error { return o.failing }

func (o *owner) Dead(_ hashring.Partition, f hlc.Stamp, visit func([]byte, uint64, crdt.Record) bool) error {
	keys := make([]string, 0, len(o.records))
	for k := range o.records {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if r := o.records[k]; crdt.Collectible(r, f) && !visit([]byte(k), hashring.KeyHash([]byte(k)), r) {
			break
		}
	}
	return o.failing
}

func (o *owner) Covers(_ hashring.Partition, key []byte, dots []crdt.Dot) (bool, error) {
	for _, d := range dots {
		if !o.records[string(key)].Covers(d) {
			return false, o.failing
		}
	}
	return true, o.failing
}

// run asks until the round has ended, or nobody gets any further.
func run(r *Round, owners []*owner) {
	for range 100 {
		to, ask := r.Asks()
		for _, id := range to {
			i := slices.IndexFunc(owners, func(o *owner) bool { return o.id == id })
			a, err := owners[i].duty.Answer(ask)
			if err != nil {
				r.Stop(Cause{Detail: fmt.Sprintf("%s: %v", id, err)})
				continue
			}
			r.Answered(id, a)
		}
		if r.Ended() {
			return
		}
	}
}

func ids(owners []*owner) []topology.NodeID {
	out := make([]topology.NodeID, len(owners))
	for i, o := range owners {
		out[i] = o.id
	}
	return out
}
