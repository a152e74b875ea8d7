package geo

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// Told is what a region's nodes have announced that its own actors wrote, of the
// partitions that this node holds: all that is known of it once the region is silent.
func (f *Fresh) Told(origin string) map[hashring.Partition]*crdt.Clock {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[hashring.Partition]*crdt.Clock{}
	for at, n := range f.nodes {
		if at.origin != origin {
			continue
		}
		for p, part := range n.parts {
			if out[p] == nil {
				out[p] = &crdt.Clock{}
			}
			out[p].Join(&part.clock)
		}
	}
	return out
}
