package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/topology"
)

// standing is what a node is to a partition that it holds.
type standing struct {
	role topology.Role
	// since is the epoch of the last change of the partition's row.
	since topology.Epoch
	// mark is not 0 while the partition is behind; see catchup.go.
	mark uint64
	// asked is since when every retry in the partition asks this node, too, in
	// milliseconds since 1970, 0 for always; see requests.go.
	asked int64
}

var (
	// ErrNotOwner says that this node has no part in the partition.
	ErrNotOwner = errors.New("not an owner of the partition")
	// ErrNotServing says that this node still takes the partition's writes, and
	// that its successor serves reads and mints by now. It wraps ErrNotOwner.
	ErrNotServing = fmt.Errorf("%w: another node serves it by now", ErrNotOwner)
	// ErrStale says that the asker does not know of the last change of the
	// partition's row yet. Nothing was done.
	ErrStale = errors.New("the asker's topology is too old for the partition")
)

// takes returns an error unless who knows epoch may write to a partition.
func (s standing) takes(epoch topology.Epoch) error {
	switch {
	case epoch != 0 && epoch < s.since && !planted.Bug(planted.IgnoreEpoch):
		return ErrStale
	case s.role == topology.None:
		return ErrNotOwner
	}
	return nil
}

// serves returns an error unless who knows epoch may read from a partition and
// have it mint.
func (s standing) serves(epoch topology.Epoch) error {
	if err := s.takes(epoch); err != nil {
		return err
	}
	switch {
	case s.role == topology.Pending:
		return ErrBehind
	case s.role != topology.Serving:
		return ErrNotServing
	case s.mark != 0:
		return ErrBehind
	}
	return nil
}

// note counts refusals.
func (r *Replica) note(err error) error {
	if err == ErrStale {
		r.stats.Stale.Add(1)
	}
	return err
}

// view is what others than the committer's goroutine see of the partitions. It
// is immutable; a new one is published when the topology or what is held
// changes.
type view struct {
	top   *topology.Topology
	parts []*partition // by partition; nil: not held
	// owned have a role, held all that this node has data of, left those of
	// them without a role.
	owned, held, left []hashring.Partition
}

// publish shows what was decided, and is durable by now.
func (r *Replica) publish() {
	v := &view{top: r.current, parts: append([]*partition(nil), r.held...)}
	behind := 0
	for id, part := range v.parts {
		if part == nil {
			continue
		}
		part.show()
		p := hashring.Partition(id)
		v.held = append(v.held, p)
		if part.stand.role == topology.None {
			v.left = append(v.left, p)
			continue
		}
		v.owned = append(v.owned, p)
		if part.stand.mark != 0 && part.stand.role != topology.Pending {
			behind++
		}
	}
	r.view.Store(v)
	r.behind.Store(int32(behind))
}

// standing of a partition, held or not.
func (v *view) standing(p hashring.Partition) standing {
	if int(p) >= len(v.parts) {
		return standing{}
	}
	if part := v.parts[p]; part != nil {
		return *part.shown.Load()
	}
	return standing{since: v.top.SinceOf(p)}
}

// decidedStanding is standing on the committer's goroutine.
func (r *Replica) decidedStanding(p hashring.Partition) standing {
	if part := r.held[p]; part != nil {
		return part.stand
	}
	return standing{since: r.current.SinceOf(p)}
}

// Topology that is in force here; it is durable.
func (r *Replica) Topology() *topology.Topology { return r.view.Load().top }

// Owned returns the partitions in which this node has a role, ascending. The
// slice is shared.
func (r *Replica) Owned() []hashring.Partition { return r.view.Load().owned }

// Held returns the partitions of which this node has data: those that it owns,
// and leftovers. It answers Compare, Pull, Buckets and Scan for them. The slice
// is shared.
func (r *Replica) Held() []hashring.Partition { return r.view.Load().held }

// Leftovers returns the partitions of which this node has data and in which it
// has no role any more; see Drop. The slice is shared.
func (r *Replica) Leftovers() []hashring.Partition { return r.view.Load().left }

// Owns reports whether this node has a role in p.
func (r *Replica) Owns(p hashring.Partition) bool {
	return r.view.Load().standing(p).role != topology.None
}

// part returns a partition that is held, else nil.
func (r *Replica) part(p hashring.Partition) *partition {
	v := r.view.Load()
	if int(p) >= len(v.parts) {
		return nil
	}
	return v.parts[p]
}

// decidedPart is part on the committer's goroutine, for what needs a role.
func (r *Replica) decidedPart(p hashring.Partition) (*partition, error) {
	part := r.held[p]
	if part == nil || part.stand.role == topology.None {
		return nil, ErrNotOwner
	}
	return part, nil
}
