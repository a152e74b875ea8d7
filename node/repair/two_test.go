package repair_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
)

// Two of three owners lose their disks at once and start under their old names,
// together: a quorum that knows nothing. Until each of them has met both others,
// the one that kept its disk among them, neither answers a read, so that nobody
// is told that a key is absent which is not; they do not wait for each other to
// be whole first. While the third one is away nothing at all is read, however
// long that takes. What the third one has is all back in the end; what only the
// two had is lost with their disks, which no level but LOCAL_ALL excludes.
func TestTwoOfThreeAreWiped(t *testing.T) {
	for _, away := range []time.Duration{0, time.Minute} {
		t.Run(fmt.Sprintf("third away for %v", away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { twoAreWiped(t, away) })
		})
	}
}

func twoAreWiped(t *testing.T, away time.Duration) {
	w := newWorld(t, 1)
	w.startAll()
	a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
	var keys []string
	for i := range 60 {
		keys = append(keys, fmt.Sprint("k", i))
		if _, err := a.put(coord.Put{Key: []byte(keys[i]), Value: []byte("v"), W: 2, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
	}
	w.pass(5 * time.Second)
	w.equal()
	// Acknowledged by the two that lose it.
	a.halt()
	for _, k := range []string{"gone1", "gone2"} {
		if _, err := b.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 2, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
	}
	if away == 0 {
		a.start() // and meets nobody before the two are wiped
	}
	for _, m := range []*member{b, c} {
		m.halt()
		if err := m.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
	}
	b.back()
	c.back()
	began := time.Now()
	// ask reads all keys with every R through every node that is up, and returns
	// how many quorums were answered.
	ask := func() (answered int) {
		for _, m := range []*member{a, b, c} {
			if m.Replica == nil {
				continue
			}
			for i, k := range keys {
				r := 1 + i%3
				got, err := m.get(coord.Get{Key: []byte(k), R: r})
				if err != nil {
					continue
				}
				if r >= 2 {
					answered++
				}
				if len(got) != 1 || got[0] != "v" {
					t.Fatalf("after %v %s answers %q for %s with R=%d", time.Since(began), m.id, got, k, r)
				}
			}
		}
		return answered
	}
	if away > 0 {
		for time.Since(began) < away {
			if n := ask(); n > 0 {
				t.Fatalf("%d reads answered by those who know nothing", n)
			}
			w.pass(time.Second)
		}
		for p := range hashring.Partition(partitions) {
			if !b.Behind(p) || !c.Behind(p) {
				t.Errorf("partition %d: caught up with nobody", p)
			}
		}
		a.start()
	}
	w.believe(a.id, false)
	returned := time.Now()
	w.pass(20 * time.Millisecond) // until it has its actor
	for i := 0; ; i++ {
		// A write by a quorum goes on as soon as one can mint.
		k := fmt.Sprint("new", i)
		if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 2, Overwrite: true}); err != nil {
			t.Errorf("write beside the refilling, after %v: %v", time.Since(returned), err)
		} else {
			keys = append(keys, k)
		}
		ask()
		if b.BehindCount() == 0 && c.BehindCount() == 0 {
			break
		}
		if time.Since(returned) > time.Minute {
			t.Fatalf("still behind: %d and %d partitions", b.BehindCount(), c.BehindCount())
		}
		w.pass(50 * time.Millisecond)
	}
	t.Logf("both answer again %v after the third did", time.Since(returned).Round(10*time.Millisecond))
	w.pass(10 * time.Second)
	if n := ask(); n == 0 {
		t.Error("nothing is answered")
	}
	w.equal()
	for _, k := range []string{"gone1", "gone2"} {
		for _, m := range []*member{a, b, c} {
			if m.has(k) != "" {
				t.Errorf("%s has %s, which was lost: tell it so in the comment above", m.id, k)
			}
		}
	}
}
