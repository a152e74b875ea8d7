package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// narrow is an engine whose transactions hold 1000 bytes, with 40 for each
// entry.
type narrow struct {
	*memstore.Engine
	most int
}

func (n *narrow) MaxTxn() int64 { return 1000 }

func (n *narrow) Begin() (storage.Txn, error) {
	tx, err := n.Engine.Begin()
	return &narrowTxn{Txn: tx, engine: n}, err
}

type narrowTxn struct {
	storage.Txn
	engine *narrow
	bytes  int
}

func (t *narrowTxn) Put(key, value []byte) error {
	if t.bytes += len(key) + len(value) + 40; t.bytes > 1000 {
		return storage.ErrTooLarge
	}
	t.engine.most = max(t.engine.most, t.bytes)
	return t.Txn.Put(key, value)
}

// Ops may write far more than their size told (a small change of a large
// record does): a group ends before the transaction is full, and the ops that
// are left make the next one.
func TestGroupEndsBeforeTheTransactionIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inner, err := memstore.NewDisk(memstore.Config{SyncMin: time.Millisecond}).Open()
		if err != nil {
			t.Fatal(err)
		}
		e := &narrow{Engine: inner}
		c := &running{Committer: storage.NewCommitter(e, storage.CommitterConfig{GroupBytes: 1 << 20}), engine: inner, end: make(chan error, 1)}
		var results []*result
		var order []int
		for i := range 40 {
			o, r := putOp(t, fmt.Sprintf("k%02d", i), string(make([]byte, 700)))
			o.size, o.decided = 1, func() { order = append(order, i) }
			submit(t, c, o)
			results = append(results, r)
		}
		run(t, c)
		for i, r := range results {
			if err := r.wait(); err != nil {
				t.Fatalf("op %d: %v", i, err)
			}
		}
		for i, n := range order {
			if i != n {
				t.Fatalf("decided in the order %v", order)
			}
		}
		if stats := c.Stats(); e.most < 700 || stats.Groups != 40 || stats.Ops != 40 {
			t.Errorf("%d bytes in a transaction, %+v", e.most, stats)
		}
		o, _ := putOp(t, "large", "")
		o.size = 851
		if err := c.Submit(o); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("an op larger than MaxOp: %v", err)
		}
		c.stop(t)
		synctest.Wait()
	})
}
