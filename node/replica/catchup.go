package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// A replica that starts on an empty directory, or on one that has lost
// something, does not know what it once acknowledged. Until it has caught up
// with every other owner of a partition it is *behind* there: it takes Applies
// and answers whoever repairs, but it answers no reads, not even with "absent",
// and mints nothing. So a quorum of reads still meets every quorum of writes,
// although one of the writers was wiped. The state is durable: it is left only
// by catching up.

// ErrBehind says that this node's disk is new or has lost something, and that
// it has not caught up with the other owners of the partition yet.
var ErrBehind = errors.New("this node is still catching up on the partition")

var keyBehind = []byte("mbehind")

// loadBehind finds out at the start whether the node is behind.
func (r *Replica) loadBehind(report storage.MarkerReport) error {
	if !r.cfg.Replicated {
		return nil // there is nobody to catch up with
	}
	_, err := r.engine.Get(keyBehind)
	switch {
	case err == nil:
	case !isNotFound(err):
		return fmt.Errorf("read whether the node is behind: %w", err)
	case report.Fresh() || report.Lost():
		tx, err := r.engine.Begin()
		if err != nil {
			return fmt.Errorf("note that the node is behind: %w", err)
		}
		defer tx.Discard()
		if err := tx.Put(keyBehind, []byte{1}); err != nil {
			return fmt.Errorf("note that the node is behind: %w", err)
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("note that the node is behind: %w", err)
		}
	default:
		return nil
	}
	r.setBehind()
	return nil
}

func (r *Replica) setBehind() {
	for _, p := range r.parts {
		if p != nil {
			p.behind.Store(true)
		}
	}
	r.behind.Store(int32(len(r.cfg.Owned)))
}

// Behind reports whether the node does not answer for p yet.
func (r *Replica) Behind(p hashring.Partition) bool {
	part := r.part(p)
	return part != nil && part.behind.Load()
}

// BehindCount is how many partitions the node does not answer for yet.
func (r *Replica) BehindCount() int { return int(r.behind.Load()) }

// CaughtUp says that this node has everything of p that any other owner had
// after this node had started.
func (r *Replica) CaughtUp(p hashring.Partition) {
	part := r.part(p)
	if part == nil || !part.behind.CompareAndSwap(true, false) {
		return
	}
	if r.behind.Add(-1) == 0 {
		r.submit(&behindOp{})
	}
}

// behindOp makes the state durable: none is behind, or (set) all are.
type behindOp struct {
	set  bool
	done chan error // may be nil
}

func (o *behindOp) Size() int { return 0 }
func (o *behindOp) Decided()  {}

func (o *behindOp) Decide(tx storage.Txn) error {
	if o.set {
		return tx.Put(keyBehind, []byte{1})
	}
	return tx.Delete(keyBehind)
}

func (o *behindOp) Done(err error) {
	if o.done != nil {
		o.done <- err
	}
}
