package fleet

import (
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/wire"
)

// Converged returns nil when all owners in all regions have equal clocks and
// equal digests, else an error that names the first difference. While writes
// go on it hardly ever does.
func (f *Fleet) Converged() error {
	first := map[hashring.Partition]wire.Sum{}
	for _, id := range f.order {
		p := f.Process(id)
		if p == nil {
			return fmt.Errorf("node %s is down", id)
		}
		n := p.Node()
		if n == nil {
			return fmt.Errorf("node %s is starting", id)
		}
		for _, part := range n.Replica().Owned() {
			sum := n.Replica().Sum(part)
			if was, ok := first[part]; ok && was != sum {
				return fmt.Errorf("partition %d of node %s differs", part, id)
			}
			first[part] = sum
		}
	}
	return nil
}
