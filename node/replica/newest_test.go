package replica

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

// newest against looking through the list.
func TestNewestAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var n newest
		var list []string
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(list) > 0 && rapid.Bool().Draw(t, "take") {
				n.gone([]byte(list[0]))
				list = list[1:]
				continue
			}
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			last := -1
			for i, k := range list {
				if k == key {
					last = i
				}
			}
			if i, ok := n.at([]byte(key)); ok != (last >= 0) || ok && i != last {
				t.Fatalf("%q is at %d (%v), not %d of %v", key, i, ok, last, list)
			}
			n.put([]byte(key), len(list))
			list = append(list, key)
		}
	})
}

// What owners write for one entry stays one operation of theirs, whatever the key's
// length.
func TestGatheredIsBounded(t *testing.T) {
	for _, c := range []struct{ key, ids int }{{3, 0}, {3, 1}, {4 << 10, 0}, {4 << 10, 1}} {
		it := gathered{key: make([]byte, c.key)}
		for !it.full() {
			it.dots = append(it.dots, crdt.Dot{Actor: 1, N: uint64(len(it.dots) + 1)})
			for range c.ids {
				it.ids = append(it.ids, crdt.EventID{})
			}
		}
		if room := indexRoom(c.key, len(it.dots), len(it.ids)); room > keyBytes+8<<10 || len(it.dots) > keyDots {
			t.Errorf("key of %d bytes: %d events that take %d bytes", c.key, len(it.dots), room)
		}
	}
}
