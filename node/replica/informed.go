package replica

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// SetFresh names who tells up to when this node had all that other regions wrote
// to a partition. Call it before Run; without it nothing is told.
func (r *Replica) SetFresh(fresh func(hashring.Partition) []wire.Fresh) { r.fresh = fresh }

// ReadKnowing is Read for a reader who names what the answer has to know (see
// wire.Read): what it names is looked for before the record is read. With a
// deadline done is called when all of it was delivered, or then. It is called
// once, perhaps before ReadKnowing returns, and must not block.
func (r *Replica) ReadKnowing(epoch topology.Epoch, m wire.Read, deadline time.Time, done func(wire.Held, error)) {
	hash := hashring.KeyHash(m.Key)
	p := r.Partition(hash)
	read := func() {
		if err := r.takesFor(m.Home, m.Key); err != nil {
			done(wire.Held{}, err)
			return
		}
		held := wire.Held{}
		held.Missing, held.Lost = r.Look(p, m.Needs)
		if m.Fresh && r.fresh != nil {
			held.Fresh = r.fresh(p)
		}
		// Before the record is read: what is decided in between is in the record.
		held.Pending = r.SerialPending(m.Key)
		var err error
		held.Record, err = r.Read(epoch, hash, m.Key)
		done(held, err)
	}
	switch {
	case m.Needs == nil || deadline.IsZero():
		read()
	default:
		r.Await(p, m.Needs, len(m.Key), deadline, func(_ *crdt.Clock, err error) {
			if err != nil {
				done(wire.Held{}, err)
				return
			}
			read()
		})
	}
}
