package repair_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// What is fetched is paid for out of the budget, and clients come first.
func TestPace(t *testing.T) {
	const budget, size, records = 100_000, 10_000, 100
	for _, c := range []struct {
		name     string
		busy     float64
		idleFrom time.Duration
		// after seconds at least, and at most, so many records.
		after    time.Duration
		min, max int
	}{
		{"idle", 0, 0, 5 * time.Second, 40, 60},
		{"idle for as long as it takes", 0, 0, 12 * time.Second, records, records},
		{"half", 0.5, time.Hour, 10 * time.Second, 40, 60},
		{"busy", 1, time.Hour, 20 * time.Second, 5, 15},
		{"busy, and then not", 1, 10 * time.Second, 21 * time.Second, records, records},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.page, w.budget = size, budget
				w.startAll()
				a, b := w.nodes["a1"], w.nodes["a3"]
				b.halt()
				keys := keysIn(3, records)
				for i, k := range keys {
					a.write(k, strings.Repeat(string(rune('a'+i%26)), size))
				}
				w.setLoad(c.busy)
				b.back()
				began := time.Now()
				go func() {
					time.Sleep(c.idleFrom)
					w.setLoad(0)
				}()
				w.pass(c.after)
				n := 0
				for _, k := range keys {
					if len(b.has(k)) == size {
						n++
					}
				}
				if n < c.min || n > c.max {
					t.Errorf("%d of %d records after %v, want %d to %d", n, records, time.Since(began), c.min, c.max)
				}
				w.pass(c.idleFrom)
			})
		})
	}
}

// A node that was killed and comes back after a minute of writes has everything
// within 10 s, although the writes go on; its clocks show it. What it alone had
// reaches the others as fast.
func TestKilledNodeCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for _, m := range w.nodes {
			m.disk = memstore.NewDisk(memstore.Config{Seed: 1, SyncMin: 2 * time.Millisecond, SyncMax: 10 * time.Millisecond})
		}
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		lone := c.write("lone", "v")
		c.Abandon() // as kill -9
		c.halt()
		write := func(i int) {
			t.Helper()
			if _, err := a.put(coord.Put{Key: fmt.Append(nil, "k", i%4000), Value: make([]byte, 200), W: 2, Overwrite: true}); err != nil {
				t.Fatal(err)
			}
		}
		began, n := time.Now(), 0
		for ; time.Since(began) < time.Minute; n++ {
			write(n)
		}
		var missed uint64
		want := map[hashring.Partition]*crdt.Clock{}
		for p := range hashring.Partition(partitions) {
			want[p] = a.Clock(p)
		}
		c.back()
		a.up <- c.id // as the failure detector tells
		b.up <- c.id
		returned := time.Now()
		for p, clock := range want {
			missed += c.Clock(p).CountMissing(clock)
		}
		has := func() bool {
			for p, clock := range want {
				if !c.Clock(p).Covers(clock) {
					return false
				}
			}
			p := partOf("lone")
			return a.Clock(p).Contains(lone) && b.Clock(p).Contains(lone)
		}
		for !has() && time.Since(returned) < time.Minute {
			write(n)
			n++
		}
		took := time.Since(returned)
		t.Logf("%d writes in a minute, %d of them missed; caught up after %v, %d bytes fetched", n, missed, took, c.repair.Stats().Bytes.Load())
		if missed < 2000 || took > 10*time.Second {
			t.Errorf("%d missed, caught up after %v", missed, took)
		}
		w.pass(5 * time.Second)
		w.equal()
	})
}
