package storage_test

import (
	"testing"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// What waits is told in groups, by ops or by bytes, whichever are more.
func TestBacklog(t *testing.T) {
	engine, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	c := storage.NewCommitter(engine, storage.CommitterConfig{GroupOps: 4, GroupBytes: 1000}) // nobody runs it
	for i, want := range []float64{.25, .5, 2} {
		o, _ := putOp(t, "k", "v")
		o.size = []int{10, 10, 1980}[i]
		if err := c.Submit(o); err != nil {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Backlog() != want {
			t.Errorf("after %d ops: %v of %d ops, %d bytes, not %v", i+1, s.Backlog(), s.QueueOps, s.QueueBytes, want)
		}
	}
	if s := (&storage.CommitterStats{QueueOps: 5}); s.Backlog() != 0 {
		t.Error("a committer that says nothing of its groups is busy")
	}
}
