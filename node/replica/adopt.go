package replica

import (
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// A node's topology is in its store, and changes there by an operation of the
// committer: so it is ordered with the writes. Operations that were decided
// before an adoption have had their Done before the adoption's; those decided
// after it are judged by it. Once Adopt is done at epoch e, the node never
// again acknowledges what was sent in ignorance of a change of the partition
// at or before e, whatever was in its queue.

var keyTopology = []byte("mtopology")

// Stored returns the topology that is in force in a store, nil for none.
func Stored(engine storage.Reader) (*topology.Topology, error) {
	b, err := engine.Get(keyTopology)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read stored topology: %w", err)
	}
	t, err := topology.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("read stored topology: %w: %w", storage.ErrCorrupt, err)
	}
	return t, nil
}

// Readable returns an error that wraps storage.ErrCorrupt if a store lacks what
// Open cannot do without: whose it is, and which topology is in force.
func Readable(engine storage.Reader) error {
	if _, err := engine.Get(keyIdentity); err != nil && !isNotFound(err) {
		return fmt.Errorf("read identity of the data directory: %w", err)
	}
	_, err := Stored(engine)
	return err
}

// Adopt puts t in force: roles, the epochs that fence, and what is held. done
// gets nil when t, or one with a higher epoch, is durable and in force; it runs
// on the caller's or on the committer's goroutine and must not block. An epoch
// that is not higher than that in force changes nothing.
//
// t must be of this region and have as many partitions, and must not change any
// more. A partition that is being dropped gets its role when that is done.
func (r *Replica) Adopt(t *topology.Topology, done func(error)) {
	if t != nil && t.Epoch <= r.Topology().Epoch {
		done(nil)
		return
	}
	if err := r.suits(t); err != nil {
		done(fmt.Errorf("adopt topology: %w", err))
		return
	}
	r.submit(&topologyOp{r: r, next: t, encoded: topology.Encode(t), stands: standings(t, r.cfg.Node), done: done})
}

// suits reports whether t can be in force here.
func (r *Replica) suits(t *topology.Topology) error {
	have := r.cfg.Topology
	if t == nil || t.Region != have.Region || t.RegionID != have.RegionID || t.Table.Partitions() != have.Table.Partitions() {
		return fmt.Errorf("topology is not one of region %s (id %d) with %d partitions",
			have.Region, have.RegionID, have.Table.Partitions())
	}
	if err := t.Validate(); err != nil { // it could not be read again
		return fmt.Errorf("topology %d: %w", t.Epoch, err)
	}
	return nil
}

// standings of a node by t, by partition, without marks.
func standings(t *topology.Topology, id topology.NodeID) []standing {
	out := make([]standing, t.Table.Partitions())
	for p := range out {
		out[p] = standing{role: t.Role(hashring.Partition(p), id), since: t.SinceOf(hashring.Partition(p))}
	}
	return out
}

type topologyOp struct {
	r       *Replica
	next    *topology.Topology
	encoded []byte
	stands  []standing
	done    func(error)
}

func (o *topologyOp) Size() int { return 0 } // also when the disk is full
func (o *topologyOp) Decided()  {}

func (o *topologyOp) Decide(tx storage.Txn) error {
	if o.next.Epoch <= o.r.current.Epoch {
		return nil
	}
	return o.r.adoptTopology(tx, o.next, o.encoded, o.stands)
}

func (o *topologyOp) Done(err error) {
	if err == nil {
		o.r.publish()
	}
	o.done(err)
}

// adoptTopology decides t: it runs on the committer's goroutine, or before
// there is one.
func (r *Replica) adoptTopology(tx storage.Txn, t *topology.Topology, encoded []byte, stands []standing) error {
	if err := tx.Put(keyTopology, encoded); err != nil {
		return fmt.Errorf("write topology %d: %w", t.Epoch, err)
	}
	r.current = t
	for id, is := range stands {
		p := hashring.Partition(id)
		part := r.held[p]
		if part == nil {
			if is.role == topology.None || r.dropping[p] {
				continue
			}
			if err := r.gain(tx, p, is); err != nil {
				return err
			}
			continue
		}
		was := part.stand
		is.mark, is.asked = was.mark, was.asked
		part.stand = is
		if was.since != is.since {
			forget := part.forgetRequests
			if is.role.Mints() && !was.role.Mints() {
				forget = part.forgetAttempts
			}
			if err := forget(tx); err != nil {
				return err
			}
		}
		if falls(was, is) && r.others(p) {
			if err := r.markBehind(tx, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// gain begins to hold p. Its snapshot is written at once: it is how the next
// start knows that there is data of p, also when the role is gone by then.
func (r *Replica) gain(tx storage.Txn, p hashring.Partition, is standing) error {
	part := newPartition(p)
	if !planted.Bug(planted.ReuseDropped) {
		part.own = r.floors[p]
	}
	part.stand = is
	floors, err := loadFloors(tx, p)
	if err != nil {
		return err
	}
	losses, err := loadLosses(tx, p)
	if err != nil {
		return err
	}
	part.decided.floors, part.durable.floors = floors, floors
	part.decided.losses, part.durable.losses = losses, losses
	part.hide(floors)
	if err := part.putSnapshot(tx); err != nil {
		return err
	}
	r.held[p] = part
	if !r.others(p) {
		return part.forgetRequests(tx)
	}
	if falls(standing{}, is) {
		return r.markBehind(tx, part)
	}
	return part.forgetAttempts(tx)
}

// others reports whether anybody else takes the writes of p, by the topology
// that is decided: else there is nobody to catch up with.
func (r *Replica) others(p hashring.Partition) bool {
	for _, id := range r.current.Takers(p) {
		if id != r.cfg.Node {
			return true
		}
	}
	return false
}
