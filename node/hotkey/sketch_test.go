package hotkey

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// exact is the twin: every request, and its weight worked out from scratch.
type exact struct {
	seen map[string][]request
	born int64
}

type request struct {
	at int64
	n  float64
}

func (x *exact) add(now int64, key string, n float64) {
	if x.seen == nil {
		x.seen, x.born = map[string][]request{}, now
	}
	x.seen[key] = append(x.seen[key], request{now, n})
}

// rate is the key's faded count, scaled as the sketch scales it.
func (x *exact) rate(now int64, key string) float64 {
	sum := 0.0
	for _, r := range x.seen[key] {
		sum += r.n * math.Exp(-float64(now-r.at)/Window)
	}
	age := float64(max(now-x.born, 1000)) / Window
	return sum / (Window / 1000 * (1 - math.Exp(-age)))
}

func (x *exact) total(now int64) float64 {
	sum := 0.0
	for k := range x.seen {
		sum += x.rate(now, k)
	}
	return sum
}

// TestSketchLaws: H1, H2, H3 and the floor, against the twin.
func TestSketchLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(1, 20).Draw(t, "m")
		keys := rapid.IntRange(1, 60).Draw(t, "keys")
		skew := rapid.IntRange(1, 3).Draw(t, "skew")
		s, x := NewSketch(m), exact{}
		now := rapid.Int64Range(-1e12, 1e12).Draw(t, "start")
		steps := rapid.IntRange(1, 300).Draw(t, "steps")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		gaps := rapid.SampledFrom([]int64{0, 3, 700, 20_000, 400_000}).Draw(t, "gaps")
		for range steps {
			if gaps > 0 {
				now += rng.Int64N(gaps)
			}
			k := fmt.Sprint("key ", int(float64(keys)*math.Pow(rng.Float64(), float64(skew))))
			n := float64(1 + rng.IntN(3))
			s.Add(now, Hash("b", []byte(k)), "b", []byte(k), n)
			x.add(now, k, n)
		}
		now += rapid.SampledFrom([]int64{0, 0, 5_000, 100_000}).Draw(t, "later")
		all := s.Counts(now)
		counts, total, floor := all.Keys, all.Total, all.Floor
		want := x.total(now)
		slack := 1e-9 * (want + 1)
		if math.Abs(total-want) > slack {
			t.Fatalf("total %g, want %g", total, want)
		}
		if len(counts) > m {
			t.Fatalf("%d keys in a sketch of %d", len(counts), m)
		}
		bound := want/float64(m) + slack
		if floor > bound {
			t.Fatalf("floor %g, at most %g", floor, bound)
		}
		there := map[string]bool{}
		for _, c := range counts {
			k := string(c.Key)
			if c.Bucket != "b" || there[k] {
				t.Fatalf("%q %q twice or from nowhere", c.Bucket, k)
			}
			there[k] = true
			is := x.rate(now, k)
			if c.Rate < is-slack || c.Rate-c.Error > is+slack || c.Error > bound {
				t.Fatalf("%s: %g with error %g (at most %g), is %g", k, c.Rate, c.Error, bound, is)
			}
		}
		for k := range x.seen {
			if is := x.rate(now, k); !there[k] && (is > floor+slack || is > bound) {
				t.Fatalf("%s with %g is missing; floor %g, bound %g", k, is, floor, bound)
			}
		}
	})
}

// TestTableAgreesWithSlots checks the open addressing and the heap after much
// replacing, with hashes that collide in the table.
func TestTableAgreesWithSlots(t *testing.T) {
	s := NewSketch(16)
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 20_000 {
		h := uint64(rng.IntN(40))<<32 | uint64(rng.IntN(3))
		s.Add(int64(step), h, "", []byte("k"), 1)
		filled := 0
		for _, i := range s.table {
			if i != 0 {
				filled++
			}
		}
		if filled != s.used || len(s.heap) != s.used {
			t.Fatalf("step %d: %d in the table, %d in the heap, %d used", step, filled, len(s.heap), s.used)
		}
		for i := range s.slots[:s.used] {
			sl := &s.slots[i]
			if s.find(sl.hash) != int32(i) || s.heap[sl.at] != int32(i) {
				t.Fatalf("step %d: slot %d is not found", step, i)
			}
			if up := s.heap[(max(sl.at, 1)-1)/2]; s.slots[up].count > sl.count {
				t.Fatalf("step %d: heap is out of order", step)
			}
		}
	}
}

// TestRatesFollow: a rate is what it is, also soon after the start, and fades.
func TestRatesFollow(t *testing.T) {
	s := NewSketch(8)
	now := int64(0)
	run := func(seconds, perSecond int) {
		for range seconds * perSecond {
			now += int64(1000 / perSecond)
			s.Add(now, 7, "b", []byte("k"), 1)
		}
	}
	rate := func() float64 {
		return s.Counts(now).Keys[0].Rate
	}
	run(3, 100)
	if r := rate(); r < 95 || r > 105 {
		t.Errorf("after 3 s: %g a second", r)
	}
	run(60, 100)
	if r := rate(); r < 99 || r > 101 {
		t.Errorf("after a minute: %g a second", r)
	}
	now += 5 * Window
	if r := rate(); r > 1 {
		t.Errorf("after five silent windows: %g a second", r)
	}
	now += 1000 * Window
	run(30, 10)
	if r := rate(); r < 8 || r > 10.1 {
		t.Errorf("after a long silence: %g a second", r)
	}
}

func TestCollectAndMerge(t *testing.T) {
	feed := func(s *Sketch, key string, n int) {
		for range n {
			s.Add(5000, Hash("b", []byte(key)), "b", []byte(key), 1)
		}
	}
	node := func(reads, writes map[string]int) Report {
		var r, w []Counts
		for k, n := range reads {
			s := NewSketch(4)
			feed(s, k, n)
			r = append(r, s.Counts(5000))
		}
		for k, n := range writes {
			s := NewSketch(4)
			feed(s, k, n)
			w = append(w, s.Counts(5000))
		}
		return Collect(2, r, w)
	}
	a := node(map[string]int{"x": 100, "y": 50, "z": 10}, map[string]int{"y": 80})
	if len(a.Entries) != 2 || string(a.Entries[0].Key) != "y" || string(a.Entries[1].Key) != "x" {
		t.Fatalf("%+v", a)
	}
	y := a.Entries[0]
	if math.Abs(y.Writes/y.Reads-1.6) > 1e-9 || math.Abs(y.Share-130.0/240) > 1e-9 || a.Floor == 0 {
		t.Errorf("%+v, floor %g", y, a.Floor)
	}
	b := node(map[string]int{"x": 400}, nil)
	m := Merge(10, a, b)
	if string(m.Entries[0].Key) != "x" || math.Abs(m.Entries[0].Share-500.0/640) > 1e-9 || m.Floor != a.Floor {
		t.Errorf("%+v", m)
	}
	if m.Reads != a.Reads+b.Reads || m.Writes != a.Writes || len(m.Entries) != 2 {
		t.Errorf("%+v", m)
	}
	// Merging does not change what it was given.
	if !slices.EqualFunc(a.Entries, node(map[string]int{"x": 100, "y": 50, "z": 10}, map[string]int{"y": 80}).Entries,
		func(p, q Entry) bool { return p.Rate() == q.Rate() && p.Share == q.Share }) {
		t.Error("changed by Merge")
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
		skew float64
	}{{"uniform 1M keys", 1_000_000, 1}, {"hot", 1_000_000, 12}, {"one key", 1, 1}} {
		b.Run(c.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			keys := make([][]byte, 1<<16)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "user:%012d", int(float64(c.keys)*math.Pow(rng.Float64(), c.skew)))
			}
			s := NewSketch(64)
			b.ReportAllocs()
			for i := range b.N {
				k := keys[i&(len(keys)-1)]
				s.Add(int64(i>>6), Hash("default", k), "default", k, 1)
			}
		})
	}
}
