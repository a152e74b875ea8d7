package failover

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

// drawClocks draws clocks of two partitions, and the same as a set.
func drawClocks(t *rapid.T, label string) (clocks []*crdt.Clock, set map[string]bool) {
	set = map[string]bool{}
	for p := range 2 {
		c := &crdt.Clock{}
		for range rapid.IntRange(0, 8).Draw(t, label) {
			d := crdt.Dot{Actor: crdt.MakeActor(1, 1), N: rapid.Uint64Range(1, 9).Draw(t, "n")}
			c.Add(d)
			set[fmt.Sprint(p, d)] = true
		}
		clocks = append(clocks, c)
	}
	return clocks, set
}

func setOf(clocks []*crdt.Clock) map[string]bool {
	set := map[string]bool{}
	for p, c := range clocks {
		for _, d := range c.All() {
			for n := d.Lo; n <= d.Hi; n++ {
				set[fmt.Sprint(p, crdt.Dot{Actor: d.Actor, N: n})] = true
			}
		}
	}
	return set
}

// TestBarrier compares with sets: what no owner had at two looks running is let go of,
// whatever was found before, and nothing else; and it is told.
func TestBarrier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, xs := drawClocks(t, "x")
		y, ys := drawClocks(t, "y")
		b := NewBarrier(x, y)
		before := map[string]bool{} // nobody has looked
		for range rapid.IntRange(0, 4).Draw(t, "looks") {
			var owners []Clocks
			held := map[string]bool{}
			for range rapid.IntRange(1, 3).Draw(t, "regions") {
				c := make(Clocks, 2)
				for range rapid.IntRange(0, 2).Draw(t, "owners") {
					clocks, set := drawClocks(t, "held")
					for p := range clocks {
						c[p] = append(c[p], clocks[p])
					}
					maps.Copy(held, set)
				}
				owners = append(owners, c)
			}
			b.Look(owners...)
			absent, lost := map[string]bool{}, map[string]bool{}
			for _, want := range []map[string]bool{xs, ys} {
				for d := range want {
					if !held[d] {
						absent[d] = true
						lost[d] = before[d]
					}
				}
			}
			before = absent
			maps.DeleteFunc(lost, func(_ string, is bool) bool { return !is })
			told := b.Lost()
			if got := setOf(told.Clocks(2)); !told.Whole() || !maps.Equal(got, lost) {
				t.Fatalf("told to be lost: %v, lost are %v", got, lost)
			}
			for i, want := range []map[string]bool{xs, ys} {
				left := maps.Clone(want)
				maps.DeleteFunc(left, func(d string, _ bool) bool { return lost[d] })
				if got := setOf(b.Want(i)); !maps.Equal(got, left) {
					t.Fatalf("cover %d waits for %v, not for %v", i, got, left)
				}
			}
		}
	})
}

func TestAnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, xs := drawClocks(t, "x")
		y, ys := drawClocks(t, "y")
		both := Compare(x, nil).And(Compare(y, nil))
		maps.Copy(xs, ys)
		if got := setOf(both.Clocks(2)); !both.Whole() || !maps.Equal(got, xs) || both.Writes != uint64(len(xs)) {
			t.Fatalf("%d: %v, not %v", both.Writes, got, xs)
		}
	})
	m := Missing{Counted: true, Writes: 2}
	if got := m.And(Missing{}); got.Writes != 2 {
		t.Errorf("with nothing: %+v", got)
	}
	if got := (Missing{}).And(m); got.Writes != 2 || !got.Counted {
		t.Errorf("nothing with it: %+v", got)
	}
	if got := m.And(Missing{Counted: true, Writes: 3}); got.Writes != 5 {
		t.Errorf("lists that are not whole: %+v", got)
	}
}

// Of many buckets the ones with most writes are listed.
func TestSetBuckets(t *testing.T) {
	count := map[string]uint64{"": 7, "none": 0, strings.Repeat("x", maxBucketName+1): 9}
	for i := range MaxBuckets + 10 {
		count[fmt.Sprintf("b%03d", i)] = uint64(i + 1)
	}
	var m Missing
	m.SetBuckets(count)
	if len(m.Buckets) != MaxBuckets || m.Buckets[0] != (BucketWrites{"b010", 11}) || m.Buckets[MaxBuckets-1] != (BucketWrites{"b265", 266}) {
		t.Errorf("%d: %+v ... %+v", len(m.Buckets), m.Buckets[0], m.Buckets[len(m.Buckets)-1])
	}
}
