package nodetest

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// dotsOf are those of region of's actors that owners in some regions have.
func (w *World) dotsOf(of int, in ...int) map[string]bool {
	out := map[string]bool{}
	for _, r := range in {
		for p := range hashring.Partition(w.shape.Partitions) {
			w.eachDot(r, p, func(d crdt.Dot) {
				if d.Actor.Region() == uint8(of+1) {
					out[fmt.Sprint(p, d)] = true
				}
			})
		}
	}
	return out
}

func listed(m failover.Missing) map[string]bool {
	out := map[string]bool{}
	for _, s := range m.Spans {
		for n := s.Dots.Lo; n <= s.Dots.Hi; n++ {
			out[fmt.Sprint(s.Partition, crdt.Dot{Actor: s.Dots.Actor, N: n})] = true
		}
	}
	return out
}

func less(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for d := range a {
		if !b[d] {
			out[d] = true
		}
	}
	return out
}

// putAt writes once in a region.
func (w *World) putAt(region int, key string, level quorum.Level) *coord.Error {
	for _, m := range w.all() {
		up := m.running.Load()
		if m.region != region || up == nil {
			continue
		}
		done := make(chan error, 1)
		up.node.Coordinator().Put(coord.Put{Key: []byte("put at " + key), Value: []byte(key), Level: level, Deadline: time.Now().Add(5 * time.Second)},
			func(_ coord.PutResult, err error) { done <- err })
		e, _ := (<-done).(*coord.Error)
		return e
	}
	return nil
}
