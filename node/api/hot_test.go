package api

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/atolldb/atoll/node/hotkey"
)

func TestHotKeysOfRequests(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, perMs := range []int{10, 100} { // without and with sampling
		t.Run(fmt.Sprint(perMs, " a millisecond"), func(t *testing.T) { hotKeysAt(t, rng, perMs) })
	}
}

func hotKeysAt(t *testing.T, rng *rand.Rand, perMs int) {
	h := newHotCounter()
	const ms = 5000
	for i := range ms * perMs {
		now := int64(i / perMs)
		key, write := fmt.Sprint("cold ", rng.IntN(20_000)), i%4 == 0
		if i%10 < 2 { // a fifth of all, written and read
			key, write = "hot", i%10 == 0
		}
		h.add(now, write, hotkey.Hash("b", []byte(key)), "b", []byte(key))
	}
	r := h.report(ms, 3)
	if len(r.Entries) != 3 || string(r.Entries[0].Key) != "hot" || r.Entries[0].Bucket != "b" {
		t.Fatalf("%+v", r)
	}
	e := r.Entries[0]
	near := func(got, want float64) bool { return got > .93*want && got < 1.07*want }
	if !near(e.Reads, float64(100*perMs)) || !near(e.Writes, float64(100*perMs)) || !near(e.Share, .2) {
		t.Errorf("%+v", e)
	}
	if !near(r.Reads+r.Writes, float64(1000*perMs)) {
		t.Errorf("%g reads and %g writes a second", r.Reads, r.Writes)
	}
}

// BenchmarkHotCounter is what counting adds to each request.
func BenchmarkHotCounter(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"1M keys", 1_000_000}, {"1000 keys", 1000}, {"1 key", 1}} {
		keys := make([][]byte, 1<<16)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "user:%012d", rand.IntN(c.keys))
		}
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/parallel=%t", c.name, parallel), func(b *testing.B) {
				h := newHotCounter()
				b.ReportAllocs()
				one := func(i int) {
					k := keys[i&(len(keys)-1)]
					h.add(1, i&1 == 0, hotkey.Hash("default", k), "default", k)
				}
				if !parallel {
					for i := range b.N {
						one(i)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					i := rand.IntN(1 << 16)
					for pb.Next() {
						one(i)
						i++
					}
				})
			})
		}
	}
}
