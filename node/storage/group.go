package storage

import (
	"errors"
	"fmt"
	"time"
)

// commit decides, commits and ends one group, or as many as it takes: what ops
// write can be far more than their sizes told. An error is the end of the
// committer; every op of the group has had its Done either way.
func (c *Committer) commit(group []queued) error {
	for len(group) > 0 {
		errs := append(c.errs[:0], make([]error, len(group))...)
		c.errs = errs
		done, err := c.decideAndCommit(group, errs)
		if err != nil {
			if !errors.Is(err, ErrFailed) {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
			}
			for _, q := range group {
				q.op.Done(err)
			}
			return err
		}
		c.stats.group(done.ops, done.bytes, done.writes)
		if done.writes > 0 {
			c.keeper.committed(c.ring.last)
		}
		for i, q := range group[:done.ops] {
			if errs[i] != nil {
				c.stats.rejected.Add(1)
			}
			q.op.Done(errs[i])
		}
		group = group[done.ops:]
	}
	return nil
}

// committed tells what became of a group: how many of its ops, from the first
// on, were taken into the transaction; what their sizes are together; and how
// many entries they wrote.
type committed struct{ ops, bytes, writes int }

// decideAndCommit fills errs with what the ops of group decided, as long as
// the next one surely fits. It returns an error when the outcome of the group
// is unknown.
func (c *Committer) decideAndCommit(group []queued, errs []error) (done committed, err error) {
	full := c.keeper.disk() == DiskFull
	inner, err := c.engine.Begin()
	if err != nil {
		return done, fmt.Errorf("begin group: %w", err)
	}
	tx := &groupTxn{Txn: inner}
	for i, q := range group {
		if tx.bytes >= c.room {
			group = group[:i]
			break
		}
		done.ops++
		if full && q.size > 0 {
			c.stats.refusedFull.Add(1)
			errs[i] = ErrFull
			continue
		}
		before := tx.writes
		if errs[i] = q.op.Decide(tx); errs[i] != nil && tx.writes != before {
			inner.Discard()
			return done, fmt.Errorf("op failed after it wrote: %w", errs[i])
		}
		if errs[i] == nil {
			done.bytes += q.size
		}
	}
	done.writes = tx.writes
	next := c.ring.next()
	if tx.writes > 0 {
		if err := inner.Put(next.key(), next.value()); err != nil {
			inner.Discard()
			return done, fmt.Errorf("write marker of group %d: %w", next.last, err)
		}
	}
	for i, q := range group {
		if errs[i] == nil {
			q.op.Decided()
		}
	}
	if tx.writes == 0 {
		// Nothing to sync: what was read is durable by S4 and C3.
		inner.Discard()
		return done, nil
	}
	began := time.Now()
	if err := inner.Commit(); err != nil {
		return done, fmt.Errorf("commit group %d: %w", next.last, err)
	}
	c.stats.syncNanos.Add(int64(time.Since(began)))
	c.ring = next
	return done, nil
}

// groupTxn is the transaction as ops see it: theirs to read and write, the
// committer's to end.
type groupTxn struct {
	Txn
	writes int
	bytes  int // as MaxOp counts them
}

var errReserved = errors.New("key is reserved for group markers")

func (t *groupTxn) Put(key, value []byte) error {
	if reserved(key) {
		return errReserved
	}
	t.writes++
	t.bytes += len(key) + len(value) + 64
	return t.Txn.Put(key, value)
}

func (t *groupTxn) PutFor(key, value []byte, ttl time.Duration) error {
	if reserved(key) {
		return errReserved
	}
	t.writes++
	t.bytes += len(key) + len(value) + 64
	return t.Txn.PutFor(key, value, ttl)
}

func (t *groupTxn) Delete(key []byte) error {
	if reserved(key) {
		return errReserved
	}
	t.writes++
	return t.Txn.Delete(key)
}

func (t *groupTxn) Commit() error { panic("storage: an op must not commit its group") }
func (t *groupTxn) Discard()      { panic("storage: an op must not discard its group") }

func reserved(key []byte) bool { return len(key) > 0 && key[0] == MarkerPrefix }
