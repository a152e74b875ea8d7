package repair_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
)

// Writers of one key who go on from their own answers, and never read, are told of
// ranges while something is missing at an owner of any region, also of one that the
// index does not wait for any more; and of few, within seconds, when all regions have
// it, though they go on.
func TestHolesWaitForAllRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.prune, w.index = 10*time.Second, 4<<10
		w.startAll()
		w.pass(time.Minute)
		for _, a := range w.all()[:3] {
			for _, b := range w.all()[3:] {
				w.fabric.Cut(a.id, b.id)
			}
		}
		keys := keysIn(3, 200)
		m := w.nodes["a1"]
		for _, k := range keys[1:] {
			m.write(k, "v")
		}
		var last [2]crdt.Context
		ranges := func(times int) int {
			for i := range 2 * times {
				last[i%2] = m.goOn(keys[0], fmt.Sprint("writer ", i%2), last[i%2])
				w.pass(100 * time.Millisecond)
			}
			return last[0].Seen.Ranges()
		}
		ranges(20)
		w.pass(2 * time.Minute)
		if need := m.repair.NeedFullSync(); len(need) != 1 {
			t.Fatalf("the other region is waited for: %v", need)
		}
		if n := ranges(20); n < 38 {
			t.Errorf("%d ranges of 39 while the other region has nothing", n)
		}
		w.fabric.HealAll()
		w.pass(3 * time.Minute)
		ranges(80) // 16 s
		for range 6 {
			// Twice what it takes to get to the other region, which only pulls here,
			// and to be asked about: 14 s, and no more however long they go on.
			if n := ranges(20); n > 80 {
				t.Errorf("%d ranges, though all regions have what was before the last seconds", n)
			}
		}
	})
}

// goOn has a node mint for a writer, and returns the context of the answer.
func (m *member) goOn(key, value string, after crdt.Context) crdt.Context {
	m.w.t.Helper()
	full := fullKey(key)
	ch := make(chan crdt.Context, 1)
	m.Mint(replica.Mint{
		Key: full, KeyHash: hashring.KeyHash(full), Value: []byte(value), Context: after,
		Done: func(x *replica.Minted, err error) {
			if err != nil {
				m.w.t.Errorf("write at %s: %v", m.id, err)
				x = &replica.Minted{}
			}
			ch <- x.Context
		},
	})
	return <-ch
}
