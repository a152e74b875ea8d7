package repair_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/wire"
)

// Where the index is too short, the whole partition is read once.
func TestFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 500
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		b.halt()
		c.halt()
		p := hashring.Partition(3)
		keys := keysIn(p, 50)
		var dots []crdt.Dot
		for _, k := range keys {
			dots = append(dots, a.write(k, "old")) // which no record shows later
			a.write(k, "v")
		}
		for _, d := range dots[:10] {
			if !a.disk.LoseRecord(indexKey(p, d)) {
				t.Fatal("no index entry")
			}
		}
		b.back()
		c.back()
		w.pass(5 * time.Second)
		w.equal()
		for _, k := range keys {
			if b.has(k) != "v" || c.has(k) != "v" {
				t.Errorf("%s: b has %q, c has %q", k, b.has(k), c.has(k))
			}
		}
		if n := b.repair.Stats().FullSyncs.Load() + c.repair.Stats().FullSyncs.Load(); n < 1 || n > 4 {
			t.Errorf("%d full syncs", n)
		}
	})
}

// A full sync while writes go on: at no moment does the clock speak for what is
// not there (A2).
func TestFullSyncUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 60
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		b.halt()
		c.halt()
		p := hashring.Partition(3)
		keys := keysIn(p, 50)
		lost := a.write(keys[0], "old")
		for _, k := range keys {
			a.write(k, "v")
		}
		a.disk.LoseRecord(indexKey(p, lost))
		b.back()
		latest := map[string]crdt.Dot{}
		for i := range 1000 {
			k := keys[i%len(keys)]
			latest[k] = a.write(k, fmt.Sprint("v", i))
			w.pass(time.Millisecond)
			for k, d := range latest {
				if !b.Clock(p).Contains(d) {
					continue
				}
				page, err := b.Scan(wire.Scan{Partition: p, Last: 1<<64 - 1, MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entries {
					rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
					if err != nil || string(e.Key) == string(fullKey(k)) && !rec.Covers(d) {
						t.Fatalf("the clock speaks for %v of %s, the record does not, %v", d, k, err)
					}
				}
			}
		}
		if b.repair.Stats().FullSyncs.Load() == 0 {
			t.Error("no full sync")
		}
		c.back()
		w.pass(10 * time.Second)
		w.equal()
	})
}
