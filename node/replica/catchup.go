package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// A node that begins to hold a partition, or that has lost something, does not
// know what the partition's other owners acknowledged, nor what it once
// acknowledged itself. Until it has caught up with them it is *behind* there:
// it takes Applies and answers whoever repairs, but it answers no reads, not
// even with "absent", and mints nothing. So a quorum of reads still meets every
// quorum of writes, although one of the writers was wiped.
//
// The mark is durable (but that of a node which waits for the registry's word, see
// unproven.go) and each partition's own. It is set
//
//	when the node becomes Pending, or Pending for another move: the copy is not
//	    there yet;
//	when the node is to serve what it had no role in: it was wiped while the
//	    partition was moved to it;
//	for all partitions with a role when the directory is new, has lost
//	    something, or is a copy;
//
// and it is left only by catching up. A Pending partition whose mark was
// cleared before the switch serves from the switch on. A partition that nobody
// else has is never behind.

// ErrBehind says that this node does not have all of the partition, and that
// it has not caught up with the other owners yet.
var ErrBehind = errors.New("this node is still catching up on the partition")

// keyAllBehind is how former versions marked all partitions at once.
var keyAllBehind = []byte("mbehind")

// falls reports whether a node that was one thing to a partition and is to be
// another has to catch up first.
func falls(was, is standing) bool {
	switch is.role {
	case topology.Pending:
		return was.role != topology.Pending || was.since != is.since
	case topology.Serving, topology.Parting:
		return was.role == topology.None
	}
	return false
}

// markBehind decides that part is behind, from now on and anew.
func (r *Replica) markBehind(tx storage.Txn, part *partition) error {
	if err := tx.Put(behindKey(part.id), []byte{1}); err != nil {
		return fmt.Errorf("note that partition %d is behind: %w", part.id, err)
	}
	part.stand.mark, part.unproven = r.newMark(), false
	return part.forgetAttempts(tx)
}

func (r *Replica) newMark() uint64 {
	r.lastMark++
	return r.lastMark
}

// markAll marks every partition in which the node has a role.
func (r *Replica) markAll(tx storage.Txn) error {
	for _, part := range r.held {
		if part == nil || part.stand.role == topology.None || !r.others(part.id) {
			continue
		}
		if err := r.markBehind(tx, part); err != nil {
			return err
		}
	}
	return nil
}

// Behind reports whether the node lacks something of p and has not caught up.
func (r *Replica) Behind(p hashring.Partition) bool { return r.BehindMark(p) != 0 }

// BehindMark is not 0 while the node is behind on p, and another number each
// time it falls behind. Take it before you begin to compare the partition with
// others, and give it to CaughtUp.
func (r *Replica) BehindMark(p hashring.Partition) uint64 {
	return r.view.Load().standing(p).mark
}

// BehindCount is how many partitions that the node is to answer for it does
// not answer for yet.
func (r *Replica) BehindCount() int { return int(r.behind.Load()) }

// CaughtUp says that this node has everything of p that any other owner had
// at some time after BehindMark returned mark, acceptor states included (see
// TakeSerial). It does nothing if the node has
// fallen behind anew since, or is not behind.
func (r *Replica) CaughtUp(p hashring.Partition, mark uint64) {
	if mark == 0 || r.BehindMark(p) != mark {
		return
	}
	r.submit(&caughtUpOp{r: r, p: p, mark: mark})
}

type caughtUpOp struct {
	r    *Replica
	p    hashring.Partition
	mark uint64
}

func (o *caughtUpOp) Size() int { return 0 }
func (o *caughtUpOp) Decided()  {}

func (o *caughtUpOp) Decide(tx storage.Txn) error {
	part := o.r.held[o.p]
	if part == nil || part.stand.mark != o.mark {
		return nil
	}
	if err := o.r.startAhead(tx, part); err != nil {
		return err
	}
	if err := part.shed(tx); err != nil {
		return err
	}
	if err := part.begins(tx); err != nil {
		return err
	}
	part.stand.mark = 0
	return tx.Delete(behindKey(o.p))
}

func (o *caughtUpOp) Done(err error) {
	if part := o.r.held[o.p]; err == nil && part != nil {
		o.r.showMark(part)
	}
}

// showMark publishes one partition's mark.
func (r *Replica) showMark(part *partition) {
	was := part.shown.Load()
	part.show()
	if was.mark != 0 && part.stand.mark == 0 && was.role != topology.Pending && was.role != topology.None {
		r.behind.Add(-1)
	}
}

// fallBehindOp marks all partitions with a role.
type fallBehindOp struct {
	r    *Replica
	done chan error
}

func (o *fallBehindOp) Size() int { return 0 }
func (o *fallBehindOp) Decided()  {}

func (o *fallBehindOp) Decide(tx storage.Txn) error {
	if err := o.r.markAll(tx); err != nil {
		return err
	}
	o.r.claimed.Store(0)
	return nil
}

func (o *fallBehindOp) Done(err error) {
	if err == nil {
		o.r.publish()
	}
	o.done <- err
}

// fallBehind makes the node catch up before it answers.
func (r *Replica) fallBehind() error {
	done := make(chan error, 1)
	r.enqueue(&fallBehindOp{r: r, done: done})
	if err := <-done; err != nil {
		return fmt.Errorf("note that the node is behind: %w", err)
	}
	return nil
}
