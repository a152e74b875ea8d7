package storage

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// commit decides, commits and ends one group, or as many as it takes: what ops
// write can be far more than their sizes told. An error is the end of the
// committer; every op of the group has had its Done either way.
func (c *Committer) commit(group []queued) error {
	for len(group) > 0 {
		g := grouping{ops: group, errs: c.errs[:0]}
		err := c.decideAndCommit(&g)
		c.errs = g.errs
		if err != nil {
			if !errors.Is(err, ErrFailed) {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
			}
			for _, q := range g.ops {
				q.op.Done(err)
			}
			return err
		}
		c.stats.group(len(g.errs), g.bytes, g.writes)
		if g.writes > 0 {
			c.keeper.committed(c.ring.last)
		}
		for i, err := range g.errs {
			if err != nil {
				c.stats.rejected.Add(1)
			}
			g.ops[i].op.Done(err)
		}
		group = g.ops[len(g.errs):]
	}
	return nil
}

// grouping is a group that is being decided: errs has what the first ops decided,
// as many as were taken into the transaction; bytes is what their sizes are
// together, and writes how many entries they wrote.
type grouping struct {
	ops           []queued
	errs          []error
	bytes, writes int
}

// decideAndCommit decides the ops of g, as long as the next one surely fits. It
// returns an error when the outcome of the group is unknown.
func (c *Committer) decideAndCommit(g *grouping) error {
	inner, err := c.engine.Begin()
	if err != nil {
		return fmt.Errorf("begin group: %w", err)
	}
	tx := &groupTxn{Txn: inner, gathered: c.cfg.Gathered}
	if err := c.decide(tx, g); err != nil {
		inner.Discard()
		return err
	}
	next := c.ring.next()
	for marked := false; g.writes > 0; {
		if !marked {
			if err := inner.Put(next.key(), next.value()); err != nil {
				inner.Discard()
				return fmt.Errorf("write marker of group %d: %w", next.last, err)
			}
			marked = true
		}
		more := c.await(g)
		if len(more) == 0 {
			break
		}
		g.ops = append(g.ops, more...)
		if err := c.decide(tx, g); err != nil {
			inner.Discard()
			return err
		}
	}
	if g.writes == 0 {
		// Nothing to sync: what was read is durable by S4 and C3.
		inner.Discard()
		return nil
	}
	if tx.gathered != nil && tx.gathered.Len() > 0 {
		if err := tx.gathered.Put(inner); err != nil {
			inner.Discard()
			return fmt.Errorf("write what the ops of group %d left: %w", next.last, err)
		}
	}
	began := time.Now()
	if err := inner.Commit(); err != nil {
		return fmt.Errorf("commit group %d: %w", next.last, err)
	}
	c.sync = time.Since(began)
	c.stats.syncNanos.Add(int64(c.sync))
	c.ring = next
	return nil
}

// Bulk is an Op that comes in numbers and has time, so that others go first.
type Bulk interface{ Bulk() bool }

// decide decides the ops that are not decided yet, and tells them so. What comes
// while bulk ops are decided, and is none, goes before the next of these.
func (c *Committer) decide(tx *groupTxn, g *grouping) error {
	for len(g.errs) < len(g.ops) {
		at := len(g.errs)
		end := at + 1
		if !g.ops[at].bulk {
			for end < len(g.ops) && !g.ops[end].bulk {
				end++
			}
		} else if more := c.queue.late(c.cfg.GroupOps-len(g.ops), c.cfg.GroupBytes-g.bytes); len(more) > 0 {
			// What take gave is the queue's: this makes it the group's own.
			g.ops = slices.Insert(slices.Clip(g.ops), at, more...)
			continue
		}
		if err := c.decideTo(tx, g, end); err != nil {
			return err
		}
		if len(g.errs) < end {
			break // it is full
		}
	}
	return nil
}

// decideTo decides the ops up to the end-th, as long as the next one surely fits.
func (c *Committer) decideTo(tx *groupTxn, g *grouping, end int) error {
	full := c.keeper.disk() == DiskFull
	from := len(g.errs)
	for _, q := range g.ops[from:end] {
		if tx.size() >= c.room {
			break
		}
		if full && q.size > 0 {
			c.stats.refusedFull.Add(1)
			g.errs = append(g.errs, ErrFull)
			continue
		}
		before := tx.wrote()
		err := q.op.Decide(tx)
		if err != nil && tx.wrote() != before {
			return fmt.Errorf("op failed after it wrote: %w", err)
		}
		if g.errs = append(g.errs, err); err == nil {
			g.bytes += q.size
		}
	}
	g.writes = tx.wrote()
	for i := from; i < len(g.errs); i++ {
		if g.errs[i] == nil {
			g.ops[i].op.Decided()
		}
	}
	return nil
}

// patience is how long a group of nothing but patient ops waits for company, and
// lonely for how long there has been none when it does not.
const (
	patience = 3 * time.Millisecond
	lonely   = 100 * time.Millisecond
)

// Patient is an Op that nobody waits for: if there is nothing else in its group,
// the sync waits a little, so that the next op needs none of its own.
type Patient interface{ Patient() bool }

// await returns the ops that come while a group of patient ones waits; none for
// any other group, or when nothing comes.
func (c *Committer) await(g *grouping) []queued {
	if len(g.errs) < len(g.ops) {
		return nil // it is full
	}
	for _, q := range g.ops {
		if p, ok := q.op.(Patient); !ok || !p.Patient() {
			c.company = time.Now()
			return nil
		}
	}
	if time.Since(c.company) > lonely {
		return nil
	}
	g.ops = slices.Clone(g.ops) // what take gives is valid until the next one
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if more := c.queue.take(c.cfg.GroupOps, c.cfg.GroupBytes, c.bulkBytes()); len(more) > 0 {
			return more
		}
		select {
		case <-c.queue.wake:
		case <-timer.C:
			return nil
		}
	}
}

// groupTxn is the transaction as ops see it: theirs to read and write, the
// committer's to end.
type groupTxn struct {
	Txn
	writes   int
	bytes    int // as MaxOp counts them
	gathered Gathered
}

// Gathered is what the ops of a group leave, while they are decided, to be written
// in one piece: an entry of its own for each of many small things costs more than
// what it says. What is left counts as written. All of it runs on the committer's
// goroutine.
type Gathered interface {
	// Len is how many things wait to be written, and Size how many bytes Put
	// will write, at most, as MaxOp counts them.
	Len() int
	Size() int
	// Put writes what waits. It is called at the end of a group where something
	// does; if it fails the committer stops.
	Put(tx Txn) error
}

// wrote counts entries, and size their bytes, with what is gathered.
func (t *groupTxn) wrote() int {
	if t.gathered == nil {
		return t.writes
	}
	return t.writes + t.gathered.Len()
}

func (t *groupTxn) size() int {
	if t.gathered == nil {
		return t.bytes
	}
	return t.bytes + t.gathered.Size()
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
