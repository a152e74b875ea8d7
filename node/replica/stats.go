package replica

import "sync/atomic"

// Stats count since start.
type Stats struct {
	// Stale counts reads and writes refused since the asker's topology was too
	// old.
	Stale atomic.Uint64
	// Unreadable counts records that were found to be so, Replaced those of them
	// that something was applied over, Healed those that are whole again.
	Unreadable, Replaced, Healed atomic.Uint64
	// Deleted entries of what was dropped, and of pruned indexes.
	Deleted atomic.Uint64
	// Collected dead records, below completed floors.
	Collected atomic.Uint64
	// LateConfirmed counts late versions that another owner, or the sender, stood
	// for; LateKept those that went to the side log, LateRefused the messages of
	// which nobody could tell, and Sifted the versions of this node's own store
	// that went to the side log.
	LateConfirmed, LateKept, LateRefused, Sifted atomic.Uint64
	// Waits counts those who waited for what was not delivered yet, WaitsExpired
	// those of them whose time was over before it came, WaitsRefused those who
	// were too many, and MintsBehind the writes that another owner had to take.
	Waits, WaitsExpired, WaitsRefused, MintsBehind atomic.Uint64
	// Serial counts steps of keys' consensus that were taken here, SerialRefused
	// those that were outbid or met another record, SerialUnreadable those that met
	// an unreadable state, and SerialFenced those that were asked of a home, or an
	// epoch of it, that is over.
	Serial, SerialRefused, SerialUnreadable, SerialFenced atomic.Uint64
	// SerialSpent counts acceptor states that were deleted since nobody needs them.
	SerialSpent atomic.Uint64
	// Replayed counts requests that came again after they had been carried out.
	Replayed atomic.Uint64
	// Pruned dots: index entries given up, at most.
	Pruned atomic.Uint64
}

// Stats of this replica.
func (r *Replica) Stats() *Stats { return &r.stats }
