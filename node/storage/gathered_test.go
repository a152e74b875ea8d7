package storage_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// notes gathers bytes, and puts them into one entry.
type notes struct {
	left []byte
	puts int
	err  error
}

func (n *notes) Len() int  { return len(n.left) }
func (n *notes) Size() int { return len(n.left) }
func (n *notes) Put(tx storage.Txn) error {
	n.puts++
	if n.err != nil {
		return n.err
	}
	err := tx.Put([]byte("notes"), n.left)
	n.left = nil
	return err
}

// What the ops of a group leave is written once, and durable with them, also if
// they wrote nothing else; a group that left nothing writes nothing.
func TestGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		disk := memstore.NewDisk(memstore.Config{})
		c := start(t, disk, storage.CommitterConfig{Gathered: n})
		leaves := func(b byte) (storage.Op, *result) {
			r := newResult(t)
			return &op{size: 1, done: r.done, decide: func(storage.Txn) error { n.left = append(n.left, b); return nil }}, r
		}
		a, ra := leaves('a')
		b, rb := leaves('b')
		submit(t, c, a, b)
		for _, r := range []*result{ra, rb} {
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if n.puts != 1 || value(t, c.engine, "notes") != "ab" {
			t.Errorf("%d puts of %q", n.puts, value(t, c.engine, "notes"))
		}
		syncs := c.Stats().Syncs
		if syncs != 1 {
			t.Errorf("%d syncs", syncs)
		}
		reads := newResult(t)
		submit(t, c, &op{done: reads.done})
		if err := reads.wait(); err != nil || c.Stats().Syncs != syncs || n.puts != 1 {
			t.Errorf("%v, %d syncs, %d puts", err, c.Stats().Syncs, n.puts)
		}
		c.stop(t)
		disk.Crash(func() bool { return false })
		e, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if got := value(t, e, "notes"); got != "ab" {
			t.Errorf("after a crash: %q", got)
		}
	})
}

// What is gathered fills a group as what is written does.
func TestGatheredFillsAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		c := start(t, memstore.NewDisk(memstore.Config{}), storage.CommitterConfig{Gathered: n})
		var ops []storage.Op
		var results []*result
		for range 4 {
			r := newResult(t)
			ops = append(ops, &op{size: 1, done: r.done, decide: func(storage.Txn) error {
				n.left = append(n.left, make([]byte, 3<<20)...)
				return nil
			}})
			results = append(results, r)
		}
		submit(t, c, ops...)
		for _, r := range results {
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if n.puts != 4 {
			t.Errorf("%d groups for 4 ops that left more than a group's room each", n.puts)
		}
		c.stop(t)
	})
}

// Whoever cannot write what was left stops, and so does whoever left something
// and has an error of its own: both have half a decision.
func TestGatheredFails(t *testing.T) {
	for name, n := range map[string]*notes{"put": {err: errors.New("no")}, "op": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, memstore.NewDisk(memstore.Config{}), storage.CommitterConfig{Gathered: n})
				r := newResult(t)
				submit(t, c, &op{size: 1, done: r.done, decide: func(storage.Txn) error {
					n.left = append(n.left, 'x')
					if n.err == nil {
						return errors.New("no")
					}
					return nil
				}})
				if err := r.wait(); !errors.Is(err, storage.ErrFailed) {
					t.Errorf("%v", err)
				}
				if err := <-c.end; !errors.Is(err, storage.ErrFailed) {
					t.Errorf("the committer ends with %v", err)
				}
				c.engine.Close()
			})
		})
	}
}
