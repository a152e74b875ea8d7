package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// Indexed visits those of a run of events in p that the index still has, in order,
// with the full key of each, which is not to be kept, until visit returns false. It
// reads the store.
func (r *Replica) Indexed(p hashring.Partition, run crdt.Dots, visit func(d crdt.Dot, fullKey []byte) bool) error {
	lo := indexKey(nil, p, crdt.Dot{Actor: run.Actor, N: run.Lo})
	hi := append(indexKey(nil, p, crdt.Dot{Actor: run.Actor, N: run.Hi}), 0)
	err := scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
		if unreadable {
			return true
		}
		x, ok := decodeIndexed(kv.Value)
		return !ok || visit(splitIndexKey(kv.Key), x.key)
	})
	if err != nil {
		return fmt.Errorf("read the index of partition %d: %w", p, err)
	}
	return nil
}
