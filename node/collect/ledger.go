package collect

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
)

// store is the Ledger over a node's replica and what waits at the node.
type store struct {
	*replica.Replica
	waiting func(p hashring.Partition, floor hlc.Stamp) (bool, error)
}

var _ Ledger = store{}

// Waiting says yes when it cannot be told. What this node has minted and other
// regions' logs do not have yet need not be looked at: it is in this node's
// clock, and a round is settled only when everybody has it.
func (s store) Waiting(p hashring.Partition, floor hlc.Stamp) bool {
	for _, left := range s.Leftovers() {
		if left == p {
			return true // it may have writes that no owner has
		}
	}
	waits, err := s.waiting(p, floor)
	return waits || err != nil
}

// Drop deletes what is absent: the floor is completed by now.
func (s store) Drop(p hashring.Partition, _ hlc.Stamp) error { return s.Sweep(p) }

// DeadStamps are the lowest floors at which what Dead visits is collectible.
func (s store) DeadStamps(p hashring.Partition, floor hlc.Stamp) (stamps []hlc.Stamp, err error) {
	err = s.Dead(p, floor, func(_ []byte, _ uint64, rec crdt.Record) bool {
		stamps = append(stamps, crdt.CollectibleAt(rec))
		return true
	})
	return stamps, err
}
