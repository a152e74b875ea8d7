package replica

import "github.com/atolldb/atoll/node/storage"

// Submit queues what another package writes into the same store, in a key space
// of its own, in order with everything that is written here. op.Done is called
// once, at once with ErrStopping when the node is on its way down.
func (r *Replica) Submit(op storage.Op) { r.submit(op) }
